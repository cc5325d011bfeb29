// The view of Teams: its conversations in the form in which the page shows any, and cards drawn by Microsoft's own renderer.
import { drawn, el } from "/blocks.js";
import { hostConfig } from "/teams/host_config.js";
import { markdown } from "/teams/markdown.js";

const MENTION = "@Countersign";
const BOT = "Countersign";
let loading;
let cards;

// The renderer is a script and no module; it is loaded when the view is opened.
function loadRenderer() {
  loading ??= new Promise((loaded, failed) => {
    const script = el("script", { src: "/teams/adaptivecards.min.js" });
    script.addEventListener("load", () => loaded(configure()));
    script.addEventListener("error", () => failed(new Error("Microsoft's renderer of cards could not be loaded")));
    document.head.append(el("link", { rel: "stylesheet", href: "/teams/view.css" }), script);
  });
  return loading;
}

function configure() {
  cards = window.AdaptiveCards;
  cards.AdaptiveCard.onProcessMarkdown = (text, result) => {
    result.outputHtml = el("div", null, markdown(text)).innerHTML;
    result.didProcess = true;
  };
}

async function post(path, body) {
  const response = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  return response.json();
}

/** The page's data for a user and a conversation, in the same form as Slack's. */
export async function state(user, conversation) {
  await loadRenderer();
  const query = new URLSearchParams({ user: user ?? "", conversation: conversation ?? "" });
  const data = await (await fetch(`/teams/page/state?${query}`)).json();
  const kind = (person) => (person.bot ? "bot" : person.deactivated ? "deactivated" : "member");
  const people = data.people.map((person) => ({ ...person, id: person.name, kind: kind(person) }));
  const channels = data.conversations.map((one) => ({ ...one, im: one.kind === "personal", private: one.kind === "groupChat" }));
  const messages = data.messages.map((message) => ({
    ...message, ts: message.id, time: Number(message.id), channel: message.conversation, author: message.author ?? BOT,
    thread_ts: message.thread === message.id ? null : message.thread, ephemeral_to: message.only_to, files: [], blocks: [],
  }));
  return { people: [...people, { id: BOT, name: BOT, kind: "bot" }], channels, messages, command: MENTION, shortcuts: [], home: null, modal: null };
}

/** A line of the guide as people type it here. */
export const line = (text) => text.replace(/^\/db\b/, MENTION);

export function say(user, conversation, thread, text) {
  return post("/teams/page/say", { user, conversation: thread ? `${conversation};messageid=${thread}` : conversation, text });
}

function target(message, user) {
  return { user, conversation: message.conversation, message: message.id };
}

/** What a client sends for a button: its action, with the values of the inputs. */
function sent(action) {
  const { type, verb, title } = action.toJSON();
  return { type, verb, title, data: action.data ?? {} };
}

// Choices that the app is asked for while somebody types. The renderer knows titles: values come of the choices that it holds.
async function search(input, message, user) {
  if (!input.isDynamicTypeahead?.()) return;
  const text = input.getFilterForDynamicSearch() ?? "";
  const chosen = input.choices.some((choice) => choice.title === text);
  input.showLoadingIndicator();
  const answer = await post("/teams/page/search", { ...target(message, user), input: input.id, text: chosen ? "" : text });
  const known = new Set(input.choices.map((choice) => choice.title));
  const found = (answer.choices ?? []).filter((choice) => !known.has(choice.title));
  input.choices.push(...found.map(({ title, value }) => new cards.Choice(title, value)));
  input.removeLoadingIndicator();
  if (answer.ok) input.renderChoices(text, []);
  else input.showErrorIndicator(text, "The app gave no choices");
}

// A message's text is plain, but for mentions.
const plain = (text) => text.split(/<at>(.*?)<\/at>/).map((part, at) => (at % 2 ? el("span", { class: "mention" }, part) : part));

/** A message's content: its text, and its cards. `told` is given what Teams says beside a card after a click. */
export function content(message, user, scheme, told) {
  const text = message.text ? [el("div", { class: "block" }, plain(message.text))] : [];
  return el("div", { class: "cards" }, text, message.cards.map((source) => draw(source, message, { user, scheme, told })));
}

// Coloured signs are drawn, as in Slack's view: not every machine has the font for them.
function drawSigns(node) {
  const texts = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) found.push(texts.currentNode);
  for (const text of found) text.replaceWith(...drawn(text.data));
}

function draw(source, message, { user, scheme, told }) {
  const card = new cards.AdaptiveCard();
  card.hostConfig = new cards.HostConfig(hostConfig(scheme));
  card.onExecuteAction = async (action) => {
    if (action instanceof cards.OpenUrlAction) { window.open(action.url, "_blank", "noopener"); return; }
    action.isEnabled = false;
    const answer = await post("/teams/page/click", { ...target(message, user), action: sent(action) });
    action.isEnabled = true;
    told(answer);
  };
  card.onInputValueChanged = (input) => search(input, message, user);
  card.parse(source);
  const node = card.render();
  node.classList.add("card");
  drawSigns(node);
  return node;
}
