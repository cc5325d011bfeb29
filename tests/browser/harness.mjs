// What the plays share: the demo, started as anyone would, a browser, and what people do in the page. No play by itself.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { mkdirSync } from "node:fs";
import { createServer } from "node:net";
import { after, before } from "node:test";
import axe from "axe-core";
import { chromium } from "playwright-core";

export const pictures = "target/pictures";
export const viewports = { wide: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };
let demo, browser, address;

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return port;
}

before(async () => {
  mkdirSync(pictures, { recursive: true });
  const port = await freePort();
  demo = spawn(process.env.COUNTERSIGN, ["demo", "--page", `127.0.0.1:${port}`], { stdio: ["ignore", "pipe", "inherit"] });
  address = await new Promise((told, failed) => {
    createInterface({ input: demo.stdout }).on("line", (line) => {
      const found = line.match(/http:\S+/);
      if (found) told(found[0]);
    });
    demo.once("exit", (code) => failed(new Error(`the demo ended with ${code}`)));
  });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
});

after(async () => {
  await browser?.close();
  if (demo?.exitCode === null) {
    const ended = new Promise((exit) => demo.once("exit", exit));
    demo.kill("SIGINT");
    await ended;
  }
});

export const messages = (page) => page.locator("#messages article.message");

export async function become(page, name) {
  await page.locator("#people .person", { hasText: name }).first().click();
  await page.locator('#people .person[aria-pressed="true"]', { hasText: name }).first().waitFor();
}

/** Types a line and waits for the answer that says these words. */
export async function asks(page, line, words) {
  const had = await messages(page).count();
  await page.fill("#input", line);
  await page.click("#send");
  const answer = messages(page).nth(had);
  await answer.getByText(words).first().waitFor().catch(async (why) => {
    const said = (await messages(page).allInnerTexts()).slice(had).join("\n");
    throw new Error(`${line}: ${words} was not said, but:\n${said}`, { cause: why });
  });
  return answer;
}

export async function noSidewaysScrolling(page) {
  const [scroll, client] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(scroll <= client, `the page scrolls sideways: ${scroll} > ${client}`);
}

/** Every part of the messages, or of another place, that is wider than its own place. What is typed may be longer than its field. */
export async function sidewaysInside(page, place = "#messages article") {
  return page.evaluate((place) => [...document.querySelectorAll(`${place} *`)]
    .filter((part) => part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).display !== "inline" && part.tagName !== "INPUT")
    .map((part) => `${part.tagName}.${part.className}: ${part.scrollWidth} > ${part.clientWidth}: ${part.innerText.slice(0, 80)}`), place);
}

/** Waits until those elements have these texts, and no other element of the kind is there. */
export async function shows(page, selector, texts) {
  const read = (selector) => [...document.querySelectorAll(selector)].map((element) => element.innerText);
  const same = ([selector, texts]) =>
    JSON.stringify([...document.querySelectorAll(selector)].map((element) => element.innerText)) === JSON.stringify(texts);
  await page.waitForFunction(same, [selector, texts]).catch(async (why) => {
    throw new Error(`${selector} shows ${JSON.stringify(await page.evaluate(read, selector))}, not ${JSON.stringify(texts)}`, { cause: why });
  });
}

/** Nothing that axe-core finds wrong, in light and in dark. */
export async function accessible(page, where) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.locator(`html[data-scheme=${colorScheme}]`).waitFor();
    if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe.source);
    const { violations } = await page.evaluate(() => window.axe.run());
    const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("\n  ")}`);
    assert.deepEqual(found, [], `${where} in ${colorScheme}`);
    await page.screenshot({ path: `${pictures}/${where}-${colorScheme}.png` });
  }
}

/** The demo's page, in a window of that size. */
export async function opens(size) {
  const page = await browser.newPage({ viewport: viewports[size] });
  page.setDefaultTimeout(30_000);
  await page.goto(address);
  return page;
}

/** Finds, among the messages that a play has not seen before, the newest that says these words. */
export async function unseen(page) {
  await page.locator("#input:focus").waitFor();
  const had = await messages(page).evaluateAll((seen) => seen.map(({ dataset }) => `:not([data-ts="${dataset.ts}"])`));
  return (words) => page.locator(`#messages > article${had.join("")}`).filter({ hasText: words }).last();
}
