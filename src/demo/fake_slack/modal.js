// Modals: shown as Slack shows them, over the whole page on a phone; mistakes stand at their fields.
import { blocks, el } from "/blocks.js";

let shown = { id: null, text: null, fields: [] };
const box = el("dialog", { id: "modal", "aria-labelledby": "modal-title" });
document.body.append(box);

const text = (object) => object?.text ?? "";

function plainField(element, id) {
  const node = element.multiline ? el("textarea", { id, rows: "3" }) : el("input", { id, type: "text" });
  node.value = element.initial_value ?? "";
  return { node, value: () => node.value.trim() };
}

function selectField(element, id) {
  const option = (o) => el("option", { value: o.value }, text(o.text));
  const node = el("select", { id }, el("option", { value: "" }, "Select an option"), element.options.map(option));
  node.value = element.initial_option?.value ?? "";
  return { node, value: () => node.value };
}

function checkField(element, id) {
  const option = element.options[0];
  const input = el("input", { id, type: "checkbox" });
  input.checked = (element.initial_options ?? []).length > 0;
  return { node: el("label", { class: "check" }, input, text(option.text)), value: () => (input.checked ? option.value : "") };
}

// Choices that the app is asked for while somebody types.
function searchField(element, id, ask) {
  let chosen = element.initial_option ?? null;
  let asked = 0;
  const list = el("ul", { id: `${id}-list`, role: "listbox", hidden: true });
  const input = el("input", { id, type: "text", role: "combobox", autocomplete: "off", "aria-expanded": "false",
    "aria-controls": `${id}-list`, "aria-autocomplete": "list", placeholder: text(element.placeholder) });
  const show = () => { input.value = chosen ? text(chosen.text) : ""; };
  const close = () => { list.hidden = true; input.setAttribute("aria-expanded", "false"); };
  const choose = (option) => { chosen = option; show(); close(); };
  const entry = (o) => el("li", { role: "option", "aria-selected": String(o.value === chosen?.value),
    "data-value": o.value, onclick: () => choose(o) }, text(o.text));
  const load = async () => {
    const typed = chosen && input.value === text(chosen.text) ? "" : input.value.trim();
    if (typed.length < (element.min_query_length ?? 3)) return close();
    const number = ++asked;
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    list.replaceChildren(el("li", { class: "note" }, "Loading…"));
    const answer = await ask(typed);
    if (number !== asked || list.hidden) return;
    const options = answer.options ?? [];
    const note = answer.ok ? "No results" : `The app gave no choices: ${answer.error}`;
    list.replaceChildren(...(options.length ? options.map(entry) : [el("li", { class: "note" }, note)]));
  };
  input.addEventListener("focus", load);
  input.addEventListener("click", () => { if (list.hidden) load(); });
  input.addEventListener("input", load);
  input.addEventListener("keydown", (event) => {
    const options = [...list.querySelectorAll("[data-value]")];
    if (event.key === "Escape" && !list.hidden) { event.preventDefault(); close(); }
    else if (event.key === "Enter" && !list.hidden && options.length) { event.preventDefault(); options[0].click(); }
  });
  // However long a tap on a choice lasts, the list stays meanwhile.
  list.addEventListener("mousedown", (event) => event.preventDefault());
  input.addEventListener("blur", () => { close(); if (input.value.trim()) show(); else chosen = null; });
  show();
  return { node: el("div", { class: "search" }, input, list), value: () => chosen?.value ?? "" };
}

function field(block, ask) {
  const { element } = block;
  const id = `field-${block.block_id}`;
  const make = { plain_text_input: plainField, static_select: selectField, checkboxes: checkField, external_select: searchField };
  const made = make[element.type](element, id, (typed) => ask(block.block_id, typed));
  const error = el("p", { class: "mistake", id: `${id}-mistake`, role: "alert" });
  const hint = block.hint ? el("p", { class: "hint" }, text(block.hint)) : null;
  const label = el("label", { class: "title", for: id }, text(block.label),
    block.optional ? el("span", { class: "optional" }, " (optional)") : null);
  const node = el("div", { class: "field", "data-block": block.block_id }, label, made.node, hint, error);
  return { id: block.block_id, required: !block.optional, value: made.value, error, node };
}

function mistakes(errors) {
  for (const one of shown.fields) one.error.textContent = errors[one.id] ?? "";
}

function draw(modal, user, post) {
  const ask = (block, typed) => post("/page/suggest", { user, id: modal.id, block, typed });
  shown.fields = [];
  const content = modal.view.blocks.flatMap((block) => {
    if (block.type !== "input") return blocks([block], () => {});
    const one = field(block, ask);
    shown.fields.push(one);
    return one.node;
  });
  const problem = el("p", { class: "mistake", role: "alert" });
  const close = () => post("/page/dismiss", { user, id: modal.id });
  const submit = el("button", { type: "submit", class: "primary" }, text(modal.view.submit) || "Submit");
  const form = el("form", { method: "dialog", novalidate: true },
    el("header", null, el("h2", { id: "modal-title" }, text(modal.view.title)),
      el("button", { type: "button", class: "quiet", "aria-label": "Close the form", onclick: close }, "×")),
    el("div", { class: "content" }, content, problem),
    el("footer", null, el("button", { type: "button", onclick: close }, text(modal.view.close) || "Cancel"), submit));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = Object.fromEntries(shown.fields.map((one) => [one.id, one.value()]));
    const empty = shown.fields.filter((one) => one.required && !values[one.id]);
    mistakes(Object.fromEntries(empty.map((one) => [one.id, "Please complete this required field."])));
    if (empty.length) return;
    submit.disabled = true;
    const answer = await post("/page/submit", { user, id: modal.id, values });
    submit.disabled = false;
    problem.textContent = answer.ok ? "" : answer.error;
  });
  box.replaceChildren(form);
}

export function showModal(modal, user, post) {
  if (!modal) {
    shown = { id: null, text: null, fields: [] };
    if (box.open) box.close();
    return;
  }
  const drawn = JSON.stringify(modal.view);
  if (shown.id !== modal.id || shown.text !== drawn) {
    shown = { id: modal.id, text: drawn, fields: [] };
    draw(modal, user, post);
    box.oncancel = (event) => { event.preventDefault(); post("/page/dismiss", { user, id: modal.id }); };
    if (!box.open) box.showModal();
  }
  mistakes(modal.errors);
}
