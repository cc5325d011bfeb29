// Shows Block Kit. Everything becomes elements and text nodes; no markup is ever taken from a message.

const EMOJI = {
  warning: "⚠️", rotating_light: "🚨", white_check_mark: "✅", x: "❌", no_entry: "⛔", lock: "🔒", hourglass: "⌛",
  hourglass_flowing_sand: "⏳", red_circle: "🔴", large_green_circle: "🟢", large_yellow_circle: "🟡",
  large_orange_circle: "🟠", large_blue_circle: "🔵", white_circle: "⚪", information_source: "ℹ️", eyes: "👀",
  bulb: "💡", fire: "🔥", stop_sign: "🛑", octagonal_sign: "🛑", heavy_check_mark: "✔️", bust_in_silhouette: "👤",
  key: "🔑", elephant: "🐘", snowflake: "❄️", mag: "🔍", clock3: "🕒", no_entry_sign: "🚫", page_facing_up: "📄",
  red_square: "🟥", large_red_square: "🟥", large_green_square: "🟩", large_yellow_square: "🟨",
  large_orange_square: "🟧", large_blue_square: "🟦", large_purple_circle: "🟣", black_circle: "⚫",
  tada: "🎉", wave: "👋", rocket: "🚀", bell: "🔔",
};

// Coloured marks are drawn, since colour carries meaning and not every machine has the font for it.
const DRAWN = {
  "🔴": "circle red", "🟢": "circle green", "🟡": "circle yellow", "🟠": "circle orange", "🔵": "circle blue",
  "🟣": "circle purple", "⚪": "circle white", "⚫": "circle black", "🟥": "square red", "🟩": "square green",
  "🟨": "square yellow", "🟧": "square orange", "🟦": "square blue", "✅": "check green",
};
export const drawn = (text) => text.split(/([🔴🟢🟡🟠🔵🟣⚪⚫🟥🟩🟨🟧🟦✅])\ufe0f?/u).filter(Boolean).map((part) =>
  DRAWN[part] ? el("span", { class: `drawn ${DRAWN[part]}`, role: "img", "aria-label": DRAWN[part].split(" ").reverse().join(" ") }) : part);

let names = { people: new Map(), channels: new Map() };
export function know(people, channels) {
  names = { people: new Map(people.map((p) => [p.id, p.name])), channels: new Map(channels.map((c) => [c.id, c.name])) };
}

export function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "onclick") node.addEventListener("click", value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const entities = (text) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
const emoji = (text) => text.replace(/:([a-z0-9_+-]+):/g, (all, name) => EMOJI[name] ?? all);
const safe = (url) => (/^(https?:|mailto:)/i.test(url) ? url : undefined);
const link = (url, label) => el("a", { href: safe(url), target: "_blank", rel: "noopener noreferrer" }, label);
const lines = (text) => text.split("\n").flatMap((line, index) => (index ? [el("br"), ...drawn(line)] : drawn(line)));
const mention = (label) => el("span", { class: "mention" }, label);

function token(inner) {
  const [target, label] = inner.split(/\|(.*)/s);
  if (target.startsWith("@")) return mention("@" + (names.people.get(target.slice(1)) ?? label ?? target.slice(1)));
  if (target.startsWith("#")) return mention("#" + (names.channels.get(target.slice(1)) ?? label ?? target.slice(1)));
  if (target.startsWith("!date^")) return label ?? target;
  if (target.startsWith("!subteam^")) return mention(label ?? "@" + target.slice(9));
  if (target.startsWith("!")) return mention("@" + target.slice(1));
  return link(entities(target), entities(label ?? target));
}

const MARKS = [
  [/```\n?([\s\S]+?)\n?```/, (m) => el("pre", null, entities(m[1]))],
  [/`([^`\n]+)`/, (m) => el("code", null, entities(m[1]))],
  [/<([^<>\n]+)>/, (m) => token(m[1])],
  [/(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])/, (m) => el("strong", null, mrkdwn(m[1]))],
  [/(?<![\w])_(?=\S)([^_\n]+?)(?<=\S)_(?!\w)/, (m) => el("em", null, mrkdwn(m[1]))],
  [/(?<![\w~])~(?=\S)([^~\n]+?)(?<=\S)~(?![\w~])/, (m) => el("s", null, mrkdwn(m[1]))],
  [/(?:^|(?<=\n))(?:&gt; ?[^\n]*(?:\n|$))+/, (m) => el("blockquote", null, mrkdwn(m[0].trim().replace(/^&gt; ?/gm, "")))],
];

function marked(text, marks, leaf) {
  let first = null;
  for (const [pattern, build] of marks) {
    const match = pattern.exec(text);
    if (match && (!first || match.index < first.match.index)) first = { match, build };
  }
  if (!first) return leaf(text);
  const { match, build } = first;
  return [
    ...(match.index ? leaf(text.slice(0, match.index)) : []),
    build(match),
    ...marked(text.slice(match.index + match[0].length), marks, leaf),
  ];
}

export function mrkdwn(text) {
  return marked(text, MARKS, (part) => lines(emoji(entities(part))));
}

export function textObject(value) {
  if (!value) return [];
  return value.type === "mrkdwn" ? mrkdwn(value.text) : lines(value.emoji === false ? value.text : emoji(value.text));
}

const INLINE = [
  [/`([^`\n]+)`/, (m) => el("code", null, m[1])],
  [/\[([^\]\n]+)\]\(([^)\s]+)\)/, (m) => link(m[2], m[1])],
  [/\*\*([^*\n]+)\*\*/, (m) => el("strong", null, m[1])],
  [/(?<!\w)[*_]([^*_\n]+)[*_](?!\w)/, (m) => el("em", null, m[1])],
  [/~~([^~\n]+)~~/, (m) => el("s", null, m[1])],
];
const inlineMarkdown = (text) => marked(text, INLINE, (part) => lines(emoji(part)));

// Paragraphs, headings, lists, fences and tables: what the `markdown` block is used for.
function markdown(text) {
  const parts = text.split(/(```[\s\S]*?```)/).flatMap((part) =>
    part.startsWith("```") ? [part] : part.split(/\n{2,}|(?=^#)|(?<=^#.*)\n/m));
  return parts.filter((part) => part.trim()).map((part) => {
    const rows = part.trim().split("\n");
    const heading = /^#{1,6} (.*)/.exec(rows[0]);
    if (part.startsWith("```")) return el("pre", null, part.replace(/^```\w*\n?|\n?```$/g, ""));
    if (heading) return el("h4", null, inlineMarkdown(heading[1]));
    if (rows.every((row) => /^\s*([-*]|\d+\.) /.test(row))) {
      const items = rows.map((row) => el("li", null, inlineMarkdown(row.replace(/^\s*([-*]|\d+\.) /, ""))));
      return el(/^\s*\d/.test(rows[0]) ? "ol" : "ul", null, items);
    }
    if (rows.length > 1 && /^\s*\|?[\s:|-]+\|?\s*$/.test(rows[1]) && rows[1].includes("-")) {
      const cells = (row) => row.replace(/^\s*\||\|\s*$/g, "").split("|").map((cell) => inlineMarkdown(cell.trim()));
      return grid([rows[0], ...rows.slice(2)].map(cells), []);
    }
    return el("p", null, inlineMarkdown(rows.join("\n")));
  });
}

function styled(value, content) {
  const tags = { bold: "strong", italic: "em", strike: "s", code: "code", underline: "u" };
  const wrap = (node, [key, on]) => (on && tags[key] ? el(tags[key], null, node) : node);
  return Object.entries(value.style ?? {}).reduce(wrap, content);
}

// In the reader's zone.
function date(value) {
  const at = new Date(value.timestamp * 1000);
  const time = value.format.includes("{time_secs}") ? "medium" : "short";
  return el("time", { datetime: at.toISOString(), title: value.fallback }, at.toLocaleString("en", { dateStyle: "medium", timeStyle: time }));
}

function inline(value) {
  switch (value.type) {
    case "text": return styled(value, el("span", null, lines(value.text)));
    case "link": return styled(value, link(value.url, value.text ?? value.url));
    case "emoji": return el("span", null, lines(emoji(`:${value.name}:`)));
    case "user": return mention("@" + (names.people.get(value.user_id) ?? value.user_id));
    case "channel": return mention("#" + (names.channels.get(value.channel_id) ?? value.channel_id));
    case "usergroup": return mention("@" + value.usergroup_id);
    case "broadcast": return mention("@" + value.range);
    case "date": return styled(value, date(value));
    default: return value.value ?? "";
  }
}

function richText(value) {
  return (value.elements ?? []).map((part) => {
    const inner = () => part.elements.map(inline);
    switch (part.type) {
      case "rich_text_preformatted": return el("pre", null, part.elements.map((e) => e.text ?? e.url));
      case "rich_text_quote": return el("blockquote", null, inner());
      case "rich_text_list": {
        const items = part.elements.map((item) => el("li", null, item.elements.map(inline)));
        return el(part.style === "ordered" ? "ol" : "ul", null, items);
      }
      default: return el("div", { class: "rich" }, inner());
    }
  });
}

function grid(rows, settings) {
  const cell = (tag, content, column) => {
    const align = settings[column]?.align;
    const classes = [align && `align-${align}`, settings[column]?.is_wrapped && "wrapped"].filter(Boolean).join(" ");
    return el(tag, { class: classes || undefined, scope: tag === "th" ? "col" : undefined }, content);
  };
  const row = (cells, tag) => el("tr", null, cells.map((content, column) => cell(tag, content, column)));
  const [head, ...body] = rows;
  return el("div", { class: "grid", tabindex: "0", role: "group", "aria-label": "Table" },
    el("table", null, el("thead", null, row(head, "th")), el("tbody", null, body.map((cells) => row(cells, "td")))));
}

export function button(value, act) {
  return el("button", {
    type: "button", class: value.style ?? "plain", "aria-label": value.accessibility_label,
    onclick: (event) => act(value, event.currentTarget),
  }, lines(emoji(value.text.text)));
}

function element(value, act) {
  if (value.type === "button" && value.url) return link(value.url, value.text.text);
  if (value.type === "button") return button(value, act);
  if (value.type === "image") return el("span", { class: "image" }, `▣ ${value.alt_text}`);
  return el("span", { class: "image" }, `${value.placeholder?.text ?? "Menu"} (not in this demo)`);
}

function tableCell(value, act) {
  if (value.type === "rich_text") return richText(value);
  if (value.type === "action_cell") return [element(value.element, act)];
  return lines(String(value.text ?? value.value));
}

function block(value, act) {
  switch (value.type) {
    case "header": return el("h3", null, textObject(value.text));
    case "divider": return el("hr");
    case "markdown": return el("div", { class: "markdown" }, markdown(value.text));
    case "rich_text": return el("div", null, richText(value));
    case "image": return el("div", { class: "image" }, `▣ ${value.alt_text}`);
    case "actions": return el("div", { class: "buttons" }, value.elements.map((item) => element(item, act)));
    case "context": return el("div", { class: "context" }, value.elements.map((item) =>
      el("span", null, item.type === "image" ? element(item, act) : textObject(item))));
    case "table": case "data_table": {
      const settings = value.column_settings ?? [];
      const rows = value.rows.map((row) => row.map((item) => tableCell(item, act)));
      return el("div", null, value.caption ? el("div", { class: "caption" }, value.caption) : null, grid(rows, settings));
    }
    case "section": return el("div", { class: "section" },
      el("div", { class: "section-text" },
        value.text ? el("div", null, textObject(value.text)) : null,
        value.fields ? el("div", { class: "fields" }, value.fields.map((field) => el("div", null, textObject(field)))) : null),
      value.accessory ? element(value.accessory, act) : null);
    default: return el("div", { class: "context" }, `(${value.type})`);
  }
}

export function blocks(list, act) {
  return list.map((value) => el("div", { class: `block ${value.type}` }, block(value, act)));
}
