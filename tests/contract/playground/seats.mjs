// People before pages of Microsoft's Agents Playground. Started by mod.rs with the page's address and where pictures of failures go:
// each line of input is a request, each line of output its answer.
//
// A page has one current user, ana, and can't change them. Whoever else sits before one sends clicks that carry their id in place of
// hers: the clicks are real, and the id is what a client of theirs would send. The authors of messages are the relay's to name.

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [address, pictures] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
const seats = new Map();

/** A page of the incident's chat, before which somebody sits. */
async function opens(who) {
  const page = await browser.newPage({ viewport: { width: 1500, height: 1400 } });
  page.setDefaultTimeout(20_000);
  const seat = { page, who };
  await page.route(/_conversation\/v1\//, (route) => {
    const body = route.request().postData();
    return route.continue(body ? { postData: body.replaceAll('"29:ana"', `"29:${seat.who}"`) } : {});
  });
  await page.goto(address);
  await page.getByTitle("Toggle Log Panel").click();
  await page.getByRole("treeitem", { name: "Incident 42" }).click();
  seats.set(who, seat);
}

const cards = ({ page }) => page.locator(".ac-adaptiveCard");

/** The words of each card. */
const texts = (seat) => cards(seat).allTextContents();

/** Waits until a card shows something else. */
async function changes({ page }, at, before) {
  const differs = ([at, before]) => document.querySelectorAll(".ac-adaptiveCard")[at].textContent !== before;
  await page.waitForFunction(differs, [at, before]);
}

/** The inputs of a card, each with its label. A client that draws a card again gives them new ids. */
async function inputs(card) {
  const found = await card.evaluate((card) => [...card.querySelectorAll("input, textarea")].map((input) => ({
    label: card.querySelector(`label[for="${input.id}"]`).textContent.replace("*", "").trim(),
    required: input.ariaRequired === "true",
    kind: input.type === "checkbox" ? "toggle" : input.role === "combobox" ? "list" : "text",
  })));
  return found.map((field, at) => ({ ...field, input: card.locator("input, textarea").nth(at) }));
}

async function options({ page }, input) {
  await input.click({ timeout: 2_000 });
  await page.getByRole("option").first().waitFor();
  const titles = await page.getByRole("option").allInnerTexts();
  await page.keyboard.press("Escape");
  return titles;
}

async function fills({ page }, { input, kind }, value) {
  if (kind === "list") {
    await input.click();
    await page.getByRole("option", { name: new RegExp(`^#?${value}(?= ·|$)`) }).click();
  } else if (kind === "toggle") {
    await input.setChecked(value === "true");
  } else {
    await input.fill(value);
  }
}

async function formOf(seat) {
  const at = (await cards(seat).count()) - 1;
  if (at < 0) return null;
  const fields = [];
  for (const { label, required, kind, input } of await inputs(cards(seat).nth(at))) {
    const choices = { toggle: ["true"], text: null };
    fields.push({ label, required, choices: kind === "list" ? await options(seat, input) : choices[kind] });
  }
  return fields.length ? { at, fields } : null;
}

const does = {
  /** Types a line behind a mention of the bot, as a person does. */
  async say(seat, { line }) {
    const { page } = seat;
    await page.getByRole("textbox").last().click();
    await page.keyboard.type("@Coun");
    await page.getByRole("menuitem", { name: "Countersign" }).click();
    await page.keyboard.insertText(` ${line}`);
    await page.keyboard.press("Enter");
  },

  /** Every card as it is shown there, with the words of its buttons in square brackets. */
  async sees(seat) {
    // The Playground never refreshes a card by itself, as Teams does: the button asks for one's own view.
    const shown = await texts(seat);
    const common = shown.findLastIndex((text) => text.includes("What can I do?"));
    if (common >= 0) {
      await cards(seat).nth(common).getByRole("button", { name: "What can I do?" }).click();
      await changes(seat, common, shown[common]);
    }
    return cards(seat).evaluateAll((cards) => cards.map((card) => {
      const buttons = [...card.querySelectorAll("button")].map((button) => `[${button.textContent}]`);
      return [card.textContent, ...buttons].join("\n");
    }));
  },

  /** Clicks a button of a card, perhaps as somebody who doesn't sit there. */
  async clicks(seat, { as, at, button }) {
    const card = cards(seat).nth(at);
    const sits = seat.who;
    seat.who = as;
    const sent = seat.page.waitForResponse(/_conversation\/v1\/invoke/);
    await card.getByRole("button", { name: button, exact: true }).last().click();
    await sent;
    seat.who = sits;
  },

  /** The form that was opened last, if it is still to be filled in; null also while its card is drawn again. */
  async form(seat) {
    return formOf(seat).catch((why) => {
      if (why.name !== "TimeoutError") throw why;
      return null;
    });
  },

  /** Fills in a form and submits it; true if another takes its place. */
  async submits(seat, { at, values }) {
    const card = cards(seat).nth(at);
    const before = await card.textContent();
    for (const field of await inputs(card)) {
      if (field.label in values) await fills(seat, field, values[field.label]);
    }
    await card.getByRole("button").last().click();
    await changes(seat, at, before);
    return (await cards(seat).nth(at).locator("input, textarea").count()) > 0;
  },
};

// A page shows only what was sent since it was opened.
for (const who of ["ana", "ben", "cara"]) await opens(who);
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const seat = seats.get(request.who);
  const answer = await does[request.do](seat, request).then(
    (value) => ({ value: value ?? null }),
    async (why) => {
      await seat.page.screenshot({ path: `${pictures}/playground-${process.pid}-${seat.who}.png` });
      return { error: `${request.do}: ${why}\n${await seat.page.innerText("body")}` };
    },
  );
  console.log(JSON.stringify(answer));
}
await browser.close();
