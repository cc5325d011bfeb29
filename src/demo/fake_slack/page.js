// The conversation: who you are, where you are, what you see, and what you do about it.
import { blocks, el, know, mrkdwn, textObject } from "/blocks.js";
import { completions } from "/completion.js";
import { showModal } from "/modal.js";

const $ = (id) => document.getElementById(id);
const here = new URLSearchParams(location.hash.slice(1));
const view = { chat: here.get("chat") ?? "slack", user: here.get("user"), channel: here.get("channel"), thread: null, data: null };
// The view of Teams, in a demo that has it.
let teams = null;
const shown = new Map();
const seen = new Map();
const done = new Set();
const history = [];
const narrow = matchMedia("(max-width: 760px)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const commands = fetch("/page/commands").then((response) => response.json());

function toast(text, kind = "error") {
  const note = el("div", { class: `toast ${kind}` }, text, el("button", {
    type: "button", class: "quiet", "aria-label": "Dismiss", onclick: () => note.remove() }, "×"));
  $("toasts").append(note);
  setTimeout(() => note.remove(), 9000);
}

async function post(path, body) {
  try {
    const response = await fetch(path, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    return await response.json();
  } catch {
    return { ok: false, error: "the demo is not running any more" };
  }
}

const person = (id) => view.data?.people.find((p) => p.id === id);
const place = (id) => view.data?.channels.find((c) => c.id === id);
const inTeams = () => view.chat === "teams" && teams !== null;
const title = (channel) => (channel.home ? "Countersign: home" : channel.im ? "Countersign" : channel.name);

function hue(id) {
  let sum = 0;
  for (const letter of id) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return `hue-${sum % 6}`;
}

function avatar(id) {
  const name = person(id)?.name ?? "Slack";
  const bot = person(id)?.kind === "bot";
  const initials = name.split(" ").map((word) => word[0]).join("").slice(0, 2);
  return el("span", { class: `avatar ${bot ? "bot" : hue(id)}`, "aria-hidden": "true" }, bot ? "✓" : initials);
}

async function confirmed(dialog) {
  if (!dialog) return true;
  $("confirm-title").textContent = dialog.title.text;
  $("confirm-text").replaceChildren(...textObject(dialog.text));
  $("confirm-yes").textContent = dialog.confirm.text;
  $("confirm-yes").className = dialog.style ?? "primary";
  $("confirm-no").textContent = dialog.deny.text;
  const box = $("confirm");
  box.returnValue = "";
  box.showModal();
  return new Promise((resolve) => box.addEventListener("close", () => resolve(box.returnValue === "yes"), { once: true }));
}
$("confirm-yes").addEventListener("click", () => $("confirm").close("yes"));
$("confirm-no").addEventListener("click", () => $("confirm").close("no"));

// On a message, or without one on the home.
async function click(message, action, node) {
  if (!(await confirmed(action.confirm))) return;
  node.disabled = true;
  node.classList.add("busy");
  const answer = message
    ? await post("/page/click", { user: view.user, channel: message.channel, ts: message.ts, action: action.action_id })
    : await post("/page/home/click", { user: view.user, action: action.action_id });
  node.disabled = false;
  node.classList.remove("busy");
  if (!answer.ok) toast(`The click did not get through: ${answer.error}`);
}

// What Teams says beside a card after a click.
function tell({ ok, error, notice }) {
  if (!ok) toast(`The click did not get through: ${error}`);
  else if (notice) toast(notice, "note");
}

// The shortcuts that the app has for messages.
function moreActions(message) {
  const use = async (shortcut) => {
    menu.open = false;
    const answer = await post("/page/shortcut", { user: view.user, channel: message.channel, ts: message.ts, action: shortcut.id });
    if (!answer.ok) toast(`The shortcut did not get through: ${answer.error}`);
  };
  const menu = el("details", { class: "more" }, el("summary", { "aria-label": "More actions" }, "⋯"),
    view.data.shortcuts.map((shortcut) => el("button", { type: "button", onclick: () => use(shortcut) }, shortcut.name)));
  menu.addEventListener("focusout", (event) => { if (!menu.contains(event.relatedTarget)) menu.open = false; });
  menu.addEventListener("keydown", (event) => { if (event.key === "Escape") menu.open = false; });
  return menu;
}

function messageNode(message, before) {
  const author = person(message.author);
  const time = new Date(message.time ?? Number(message.ts) * 1000);
  const clock = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const only = message.ephemeral_to;
  const body = inTeams()
    ? teams.content(message, view.user, document.documentElement.dataset.scheme, tell)
    : message.blocks.length
      ? blocks(message.blocks, (action, node) => click(message, action, node))
      : [el("div", { class: "block" }, mrkdwn(message.text))];
  const files = message.files.map((file) => el("a", {
    class: "file", href: `/files/${file.id}/${encodeURIComponent(file.name)}`, download: file.name },
    `📄 ${file.title} · ${file.size.toLocaleString("en")} bytes`));
  const reply = only || message.author === "USLACKBOT" ? null : el("button", {
    type: "button", class: "quiet reply", "aria-label": "Reply in thread",
    onclick: () => enterThread(message) }, "Reply", el("span", { class: "long" }, " in thread"));
  const classes = ["message", only && "only", message.thread_ts && "in-thread", before && "changed", !before && before !== null && "new"];
  return el("article", { class: classes.filter(Boolean).join(" "), "data-ts": message.ts },
    avatar(message.author),
    el("div", { class: "content" },
      el("div", { class: "meta" },
        el("strong", null, author?.name ?? "Slack"),
        author?.kind === "bot" ? el("span", { class: "tag" }, "APP") : null,
        el("time", { datetime: time.toISOString(), title: time.toISOString() }, clock),
        message.edited ? el("span", { class: "edited" }, "(edited)") : null,
        only ? el("span", { class: "private" }, "Only visible to you") : null,
        el("span", { class: "message-menu" }, reply, reply && view.data.shortcuts.length ? moreActions(message) : null)),
      body, files));
}

// Replies stand below the message that began their thread.
function inOrder(messages) {
  const known = new Set(messages.map((m) => m.ts));
  const replies = (ts) => messages.filter((m) => m.thread_ts === ts);
  return messages.filter((m) => !m.thread_ts || !known.has(m.thread_ts)).flatMap((m) => [m, ...replies(m.ts)]);
}

// The page that the app gave this person; what its buttons lead to is in the app's messages.
function drawHome() {
  const text = JSON.stringify(view.data.home);
  if (shown.get("home")?.text === text && $("messages").firstElementChild?.className === "home") return;
  const act = async (action, node) => {
    await click(null, action, node);
    await go(view.user, view.data.channels.find((c) => c.im && !c.home)?.id);
  };
  const inner = view.data.home ? blocks(view.data.home, act) : el("p", { class: "empty" }, "The app has not answered yet.");
  shown.clear();
  shown.set("home", { text });
  $("messages").replaceChildren(el("article", { class: "home" }, inner));
}

function drawMessages(fresh) {
  $("composer").hidden = Boolean(place(view.channel)?.home);
  if ($("composer").hidden) { drawHome(); return; }
  const box = $("messages");
  const atEnd = fresh || box.scrollHeight - box.scrollTop - box.clientHeight < 120;
  const before = new Map(shown);
  if (fresh) shown.clear();
  const nodes = inOrder(view.data.messages).map((message) => {
    const text = JSON.stringify(message);
    const old = fresh ? null : before.get(message.ts);
    if (old?.text === text) return old.node;
    const node = messageNode(message, fresh ? null : old !== undefined);
    shown.set(message.ts, { text, node });
    return node;
  });
  const changed = nodes.length !== box.children.length || nodes.some((node, index) => box.children[index] !== node);
  if (!changed) return;
  box.replaceChildren(...(nodes.length ? nodes : [el("p", { class: "empty" }, "No messages yet. Type a command below.")]));
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function drawLists() {
  const { data } = view;
  $("team").textContent = data.team;
  $("chats").hidden = !data.teams;
  for (const button of $("chats").children) button.setAttribute("aria-pressed", String(button.value === (inTeams() ? "teams" : "slack")));
  $("restart").hidden = !data.can_restart;
  const people = data.people.filter((p) => p.kind !== "bot");
  const kinds = { guest: "guest", external: "other company", deactivated: "deactivated" };
  $("people").replaceChildren(...people.map((p) => el("button", {
    type: "button", class: "person", "aria-pressed": String(p.id === view.user), disabled: p.kind === "deactivated",
    onclick: () => go(p.id, view.channel) },
    avatar(p.id),
    el("span", { class: "who" }, el("span", { class: "name" }, p.name),
      el("span", { class: "role" }, p.role_label || kinds[p.kind] || "member")))));
  $("channels").replaceChildren(...data.channels.map((c) => {
    const unread = c.id !== view.channel && c.count > (seen.get(`${view.user} ${c.id}`) ?? 0);
    return el("button", {
      type: "button", class: "channel", "aria-current": c.id === view.channel ? "page" : undefined,
      onclick: () => go(view.user, c.id) },
      el("span", { class: "mark", "aria-hidden": "true" }, c.home ? "⌂" : c.im ? "✓" : c.private ? "🔒" : "#"), title(c),
      unread ? el("span", { class: "dot", role: "img", "aria-label": "unread" }) : null);
  }));
  for (const chosen of document.querySelectorAll("#people [aria-pressed=true], #channels [aria-current]")) {
    chosen.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  const channel = place(view.channel);
  $("channel-name").textContent = channel ? (channel.im ? title(channel) : `# ${title(channel)}`) : "No channel";
  const notes = [inTeams() && "same bot and audit log as in Slack", channel?.home && "what concerns you, refreshed when opened", channel?.im && !channel.home && "direct messages with the app", channel?.private && !channel.im && "private",
    channel?.shared && "shared with another company", channel?.archived && "archived"];
  $("channel-note").textContent = notes.filter(Boolean).join(" · ");
  $("input").placeholder = `Message ${channel?.im ? "the app" : "#" + (channel?.name ?? "")}, or ${data.command}`;
}

function drawGuide() {
  const steps = view.data.guide;
  const closed = sessionStorage.getItem("guide") === "closed" || (narrow.matches && !sessionStorage.getItem("guide"));
  $("guide").hidden = !steps.length || closed;
  $("guide-open").hidden = !steps.length || !closed;
  $("app").classList.toggle("with-guide", !$("guide").hidden);
  $("steps").replaceChildren(...steps.map((step, index) => el("li", { class: done.has(index) ? "done" : undefined },
    el("button", { type: "button", class: "step", onclick: () => take(step, index) },
      el("span", { class: "step-who" }, person(step.who)?.name ?? step.who,
        el("span", null, " in " + (place(step.channel)?.im ? "Countersign" : "#" + (place(step.channel)?.name ?? step.channel)))),
      step.type_this ? el("code", null, inTeams() ? teams.line(step.type_this) : step.type_this) : null,
      step.click ? el("span", { class: "step-click" }, `Click “${step.click}”`) : null,
      el("span", { class: "why" }, step.why)))));
}

// A step is one click: it becomes the person, and types the line or clicks the button.
async function take(step, index) {
  if (narrow.matches) sessionStorage.setItem("guide", "closed");
  await go(step.who, step.channel);
  const label = step.click;
  const taken = label ? await press(label) : await send(inTeams() ? teams.line(step.type_this) : step.type_this);
  if (taken) done.add(index);
  drawGuide();
}

// Clicks the newest button that begins with that word.
async function press(label) {
  const offered = [...$("messages").querySelectorAll("article button")].filter((button) => button.textContent.trim().startsWith(label));
  const button = offered.at(-1);
  if (!button) { toast(`There is no button “${label}” here. Take the step before this one first.`); return false; }
  button.scrollIntoView({ block: "center" });
  button.click();
  return true;
}

async function send(text) {
  const { user, channel, thread } = view;
  const answer = inTeams() ? await teams.say(user, channel, thread, text) : await post("/page/say", { user, channel, text, thread });
  if (!answer.ok) toast(`Not delivered: ${answer.error}`);
  return answer.ok;
}

let asked = 0;
async function load(fresh = false) {
  const number = ++asked;
  const query = new URLSearchParams({ user: view.user ?? "", channel: view.channel ?? "" });
  const data = await (await fetch(`/page/state?${query}`)).json();
  if (data.teams) teams ??= await import("/teams/view.js");
  if (inTeams()) await showTeams(data);
  if (number !== asked && !fresh) return;
  const guide = JSON.stringify(view.data?.guide) !== JSON.stringify(data.guide) || fresh;
  const lists = JSON.stringify([data.people, data.channels, data.can_restart]);
  view.data = data;
  know(data.people, data.channels);
  const user = person(view.user) ?? data.people.find((p) => p.kind === "member");
  const channel = place(view.channel) ?? data.channels.find((c) => !c.im && !c.archived) ?? data.channels[0];
  if (user && (user.id !== view.user || (channel && channel.id !== view.channel))) {
    view.user = user.id;
    view.channel = channel?.id ?? null;
    return load(true);
  }
  seen.set(`${view.user} ${view.channel}`, channel?.count ?? 0);
  if (lists !== view.lists || fresh) drawLists();
  view.lists = lists;
  if (guide) drawGuide();
  drawSituation();
  drawMessages(fresh);
  showModal(data.modal, view.user, post);
}

// Puts what Teams has in the place of what Slack has; the guide's ids are Slack's.
async function showTeams(data) {
  const guide = data.guide.map((step) => ({ ...step, who: data.people.find((p) => p.id === step.who)?.name }));
  Object.assign(data, await teams.state(view.user, view.channel));
  const channel = data.channels.find((c) => !c.im)?.id;
  data.guide = guide.map((step) => ({ ...step, channel }));
}

// Shows the same person and channel in the other chat, where both are found by name.
async function switchTo(chat) {
  const { name } = person(view.user) ?? {};
  const channel = place(view.channel);
  view.chat = chat;
  await go(null, null);
  const user = view.data.people.find((p) => p.name === name)?.id ?? view.user;
  const same = view.data.channels.find((c) => !c.home && (channel?.im ? c.im : c.name === channel?.name));
  await go(user, same?.id ?? view.channel);
  listen();
}
for (const button of $("chats").children) button.addEventListener("click", () => switchTo(button.value));

function drawSituation() {
  const { text, trouble } = view.data.situation ?? {};
  const line = $("situation");
  line.hidden = !text;
  line.className = trouble ? "trouble" : "over";
  if (line.textContent !== text) line.textContent = text ?? "";
}

async function go(user, channel) {
  view.user = user;
  view.channel = channel;
  leaveThread();
  await load(true);
  location.replace("#" + new URLSearchParams({ chat: view.chat, user: view.user, channel: view.channel }));
  if (place(channel)?.home) await post("/page/home", { user });
  if (!narrow.matches) $("input").focus();
}

function enterThread(message) {
  view.thread = message.thread_ts ?? message.ts;
  $("thread-note").hidden = false;
  $("thread-note").firstElementChild.textContent =
    inTeams() ? "Your message goes into the thread." : "Slash commands don't work in threads: the app is mentioned instead.";
  $("input").focus();
}
function leaveThread() {
  view.thread = null;
  $("thread-note").hidden = true;
}
$("thread-end").addEventListener("click", leaveThread);

let chosen = -1;
async function suggest() {
  const known = await commands;
  if (!view.data) return;
  const found = view.thread ? [] : completions($("input").value, view.data.command, known);
  chosen = -1;
  const box = $("suggestions");
  box.hidden = !found.length;
  $("input").setAttribute("aria-expanded", String(found.length > 0));
  $("input").removeAttribute("aria-activedescendant");
  box.replaceChildren(...found.map(({ text, what }, index) => el("li", {
    id: `suggestion-${index}`, role: "option", "aria-selected": "false", onclick: () => pick(text) },
    el("code", null, text), el("span", null, what))));
}
function pick(text) {
  $("input").value = text + " ";
  $("input").focus();
  suggest();
}
function move(step) {
  const options = [...$("suggestions").children];
  chosen = (chosen + step + options.length) % options.length;
  options.forEach((option, index) => option.setAttribute("aria-selected", String(index === chosen)));
  options[chosen].scrollIntoView({ block: "nearest" });
  $("input").setAttribute("aria-activedescendant", `suggestion-${chosen}`);
}
$("input").addEventListener("input", suggest);
$("input").addEventListener("keydown", (event) => {
  const open = !$("suggestions").hidden;
  if (open && event.key === "ArrowDown") { event.preventDefault(); move(1); }
  else if (open && event.key === "ArrowUp") { event.preventDefault(); move(chosen < 0 ? 0 : -1); }
  else if (open && event.key === "Escape") $("suggestions").hidden = true;
  else if (open && ((event.key === "Enter" && chosen >= 0) || (event.key === "Tab" && !event.shiftKey))) {
    event.preventDefault();
    pick($("suggestions").children[Math.max(chosen, 0)].firstChild.textContent);
  } else if (!open && event.key === "ArrowUp" && !$("input").value && history.length) {
    event.preventDefault();
    $("input").value = history.at(-1);
  }
});

$("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("input").value.trim();
  if (!text) return;
  history.push(text);
  $("input").value = "";
  suggest();
  await send(text);
});

// The system's colours, until somebody chooses.
function drawScheme() {
  const isDark = (localStorage.getItem("scheme") ?? (dark.matches ? "dark" : "light")) === "dark";
  document.documentElement.dataset.scheme = isDark ? "dark" : "light";
  $("scheme").setAttribute("aria-pressed", String(isDark));
  if (view.data && inTeams()) drawMessages(true);
}
$("scheme").addEventListener("click", () => {
  localStorage.setItem("scheme", document.documentElement.dataset.scheme === "dark" ? "light" : "dark");
  drawScheme();
});
dark.addEventListener("change", drawScheme);
drawScheme();

$("restart").addEventListener("click", async () => {
  $("restart").disabled = true;
  const answer = await post("/page/restart", {});
  $("restart").disabled = false;
  toast(answer.ok ? answer.text : `Could not start again: ${answer.error}`, answer.ok ? "good" : "error");
});
$("guide-close").addEventListener("click", () => { sessionStorage.setItem("guide", "closed"); drawGuide(); });
$("guide-open").addEventListener("click", () => { sessionStorage.setItem("guide", "open"); drawGuide(); });
narrow.addEventListener("change", () => drawGuide());

// One load at a time: changes come faster than they can be drawn.
let loading = false;
let again = false;
async function refresh() {
  if (loading) { again = true; return; }
  loading = true;
  try { await load(); } catch { /* the link's state says so */ }
  loading = false;
  if (again) { again = false; refresh(); }
}

// A hidden page lets go of its stream: browsers open only six connections to one server.
let changes = [];
function listen() {
  changes.forEach((stream) => stream.close());
  changes = [];
  if (document.hidden) return;
  const [slack] = changes = ["/page/changes", ...(inTeams() ? ["/teams/page/changes"] : [])].map((path) => new EventSource(path));
  changes.forEach((stream) => stream.addEventListener("message", refresh));
  slack.addEventListener("open", () => { $("link").textContent = ""; });
  slack.addEventListener("error", () => { $("link").textContent = "connection lost, trying again…"; });
}
document.addEventListener("visibilitychange", listen);
addEventListener("pagehide", () => changes.forEach((stream) => stream.close()));

await load(true);
$("input").focus();
suggest(); // of what was typed meanwhile
listen();
