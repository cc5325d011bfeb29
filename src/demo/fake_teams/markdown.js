// The part of Markdown that Teams shows in a card's text. Everything becomes elements and text nodes.
import { el } from "/blocks.js";

const safe = (url) => (/^(https?:|mailto:)/i.test(url) ? url : undefined);
const entities = (text) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&nbsp;", "\u00a0").replaceAll("&amp;", "&");

const MARKS = [
  [/\\([!-/:-@[-`{-~])/, (m) => m[1]],
  [/<at>([^<]*)<\/at>/, (m) => el("span", { class: "mention" }, entities(m[1]))],
  [/\[([^\]\n]+)\]\(([^()\s]+)\)/, (m) => el("a", { href: safe(m[2]), target: "_blank", rel: "noopener noreferrer" }, inlines(m[1]))],
  [/\*\*(?=\S)(.+?)(?<=\S)\*\*/, (m) => el("strong", null, inlines(m[1]))],
  [/(?<![\w_])_(?=\S)(.+?)(?<=\S)_(?![\w_])/, (m) => el("em", null, inlines(m[1]))],
];

function inlines(text) {
  const nodes = [];
  while (text) {
    const found = MARKS.map(([pattern, node]) => ({ match: text.match(pattern), node })).filter(({ match }) => match);
    const { match, node } = found.reduce((first, one) => (first.match && first.match.index <= one.match.index ? first : one), {});
    if (!match) break;
    nodes.push(entities(text.slice(0, match.index)), node(match));
    text = text.slice(match.index + match[0].length);
  }
  return [...nodes, entities(text)];
}

const ITEM = /^\s*(?:([-*+])|\d+[.)])\s+/;

/** A text as elements: paragraphs, and lists of the lines that are marked as items. */
export function markdown(text) {
  const parts = [];
  for (const line of text.split(/\r?\n/)) {
    const [mark, bullet] = line.match(ITEM) ?? [];
    const tag = mark ? (bullet ? "ul" : "ol") : "p";
    const last = parts.at(-1);
    if (mark) {
      const list = last?.localName === tag ? last : parts[parts.push(el(tag)) - 1];
      list.append(el("li", null, inlines(line.slice(mark.length))));
    } else if (!line.trim()) parts.push(el("p"));
    else if (last?.localName === "p" && last.hasChildNodes()) last.append(el("br"), ...inlines(line));
    else parts.push(el("p", null, inlines(line)));
  }
  return parts.filter((part) => part.hasChildNodes());
}
