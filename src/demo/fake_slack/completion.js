// Completes a command line from the commands that the page was given: their names, their arguments and the values of those.

const LIMIT = 8;

/** What may follow a typed line: whole lines, each with a word on what it adds. */
export function completions(line, prefix, commands) {
  if (!line.startsWith("/") && !line.startsWith(prefix)) return [];
  const words = line.split(" ").filter((word, index, all) => word || index === all.length - 1);
  const word = words.pop();
  const kept = words.length ? words.join(" ") + " " : "";
  const found = words.length < 2 ? first(words, prefix, commands) : next(words, commands);
  const matching = found.filter(({ text }) => text !== word && text.toLowerCase().startsWith(word.toLowerCase()));
  return matching.slice(0, LIMIT).map(({ text, what }) => ({ text: kept + text, what }));
}

function first(words, prefix, commands) {
  if (!words.length) return [{ text: prefix, what: "Commands of the app" }];
  return words[0] === prefix ? commands.map(({ name, summary }) => ({ text: name, what: summary })) : [];
}

function next([, name, ...typed], commands) {
  const command = commands.find((one) => one.name === name);
  if (!command) return [];
  const option = (word) => command.arguments.find((one) => !one.positional && `--${one.name}` === word);
  const awaited = option(typed.at(-1));
  if (awaited && !awaited.switch) return values(awaited);
  const options = command.arguments.filter((one) => !one.positional && !typed.includes(`--${one.name}`));
  const named = options.map((one) => ({ text: `--${one.name}`, what: one.help }));
  const position = typed.filter((word, index) => {
    const before = option(typed[index - 1]);
    return !word.startsWith("--") && !(before && !before.switch);
  }).length;
  const positional = command.arguments.filter((one) => one.positional)[position];
  return [...(positional ? values(positional) : []), ...named];
}

const values = (argument) => argument.choices.map((text) => ({ text, what: argument.help }));
