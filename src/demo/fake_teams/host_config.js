// The look of cards in Teams, as Microsoft's card designer gives it (microsoft-teams-light.json and -dark.json, MIT licence).

const INK = { light: ["#252424", "#bf252424"], dark: ["#ffffff", "#bfffffff"] };
const COLOURS = {
  light: { dark: INK.light, light: ["#ffffff", "#f3f2f1"], accent: ["#6264a7", "#6264a7"], good: ["#92c353", "#92c353"], warning: ["#f8d22a", "#f8d22a"], attention: ["#c4314b", "#c4314b"] },
  dark: { dark: ["#201f1f", "#2d2c2c"], light: INK.dark, accent: ["#a6a7dc", "#a6a7dc"], good: ["#92c353", "#92c353"], warning: ["#f8d22a", "#f8d22a"], attention: ["#e37d80", "#e37d80"] },
};
const BACKGROUNDS = { light: { default: "#ffffff", emphasis: "#f3f2f1" }, dark: { default: "#2d2c2c", emphasis: "#201f1f" } };
// The same in both: their text is dark in both.
const STYLED = { accent: "#C7DEF9", good: "#CCFFCC", attention: "#FFC5B2", warning: "#FFE2B2" };
const SIZES = { fontSizes: { small: 12, default: 14, medium: 14, large: 18, extraLarge: 24 }, fontWeights: { lighter: 200, default: 400, bolder: 600 } };

function container(scheme, backgroundColor, ink) {
  const colours = { default: ink, ...COLOURS[scheme] };
  const foregroundColors = Object.fromEntries(Object.entries(colours).map(([name, [plain, subtle]]) => [name, { default: plain, subtle }]));
  return { backgroundColor, foregroundColors };
}

/** The configuration of the renderer for a light or a dark scheme. */
export function hostConfig(scheme) {
  const own = Object.entries(BACKGROUNDS[scheme]).map(([name, colour]) => [name, container(scheme, colour, INK[scheme])]);
  const styled = Object.entries(STYLED).map(([name, colour]) => [name, container(scheme, colour, INK.light)]);
  return {
    choiceSetInputValueSeparator: ",", supportsInteractivity: true,
    spacing: { small: 8, default: 12, medium: 16, large: 20, extraLarge: 24, padding: 16 },
    separator: { lineThickness: 1, lineColor: scheme === "dark" ? "#484644" : "#EEEEEE" },
    imageSizes: { small: 32, medium: 52, large: 100 },
    fontTypes: {
      default: { fontFamily: "'Segoe UI', system-ui, Tahoma, Geneva, Verdana, 'DejaVu Sans', sans-serif", ...SIZES },
      monospace: { fontFamily: "'Courier New', Courier, 'DejaVu Sans Mono', monospace", ...SIZES },
    },
    containerStyles: Object.fromEntries([...own, ...styled]),
    inputs: { allowDynamicallyFilteredChoiceSet: true, debounceTimeInMilliSeconds: 250,
      label: { inputSpacing: "small", requiredInputs: { weight: "bolder", color: "default" }, optionalInputs: { weight: "bolder", color: "default" } },
      errorMessage: { weight: "default", color: "attention" } },
    actions: { maxActions: 6, spacing: "default", buttonSpacing: 8, showCard: { actionMode: "inline", inlineTopMargin: 16, style: "emphasis" },
      preExpandSingleShowCardAction: false, actionsOrientation: "horizontal", actionAlignment: "left" },
    adaptiveCard: { allowCustomStyle: false },
    imageSet: { imageSize: "medium", maxImageHeight: 100 },
    factSet: { title: { weight: "bolder", wrap: true }, value: { wrap: true }, spacing: 16 },
  };
}
