// The first scene, played by people in a browser: the demo is started as anyone would, and its page is all that is touched.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { mkdirSync } from "node:fs";
import { createServer } from "node:net";
import test, { after, before } from "node:test";
import { chromium } from "playwright-core";

const pictures = "target/pictures";
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

const messages = (page) => page.locator("#messages article.message");

async function become(page, name) {
  await page.locator("#people .person", { hasText: name }).first().click();
  await page.locator('#people .person[aria-pressed="true"]', { hasText: name }).first().waitFor();
}

/** Types a line and waits for the answer that says these words. */
async function asks(page, line, words) {
  const had = await messages(page).count();
  await page.fill("#input", line);
  await page.click("#send");
  const answer = messages(page).nth(had);
  await answer.getByText(words).first().waitFor();
  return answer;
}

async function noSidewaysScrolling(page) {
  const [scroll, client] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(scroll <= client, `the page scrolls sideways: ${scroll} > ${client}`);
}

async function play(page, size) {
  await page.goto(address);
  await become(page, "ana");
  const blocked = await asks(page, "/db blocked --env production", /holds them up/);
  const text = await blocked.innerText();
  const head = text.match(/pid (\d+) \(asset-worker-7\)/)?.[1];
  assert.ok(head, `the head of the tree is asset-worker-7:\n${text}`);
  assert.equal(await blocked.getByRole("button", { name: /^Kill / }).count(), 1, "only the head is offered");
  await noSidewaysScrolling(page);
  await page.screenshot({ path: `${pictures}/blocked-${size}.png` });

  const had = await messages(page).count();
  await blocked.getByRole("button", { name: `Kill ${head}` }).click();
  const card = page.locator(`#messages article[data-ts="${await messages(page).nth(had).getAttribute("data-ts")}"]`);
  await card.getByRole("button", { name: "Approve" }).waitFor();
  const shown = await card.innerText();
  for (const words of ["PRODUCTION", "ana", head, "asset-worker-7", "Hurts", "Undo", "backend start"]) {
    assert.ok(shown.includes(words), `${words} is missing on the card:\n${shown}`);
  }
  await card.getByRole("button", { name: "Approve" }).scrollIntoViewIfNeeded();
  await page.screenshot({ path: `${pictures}/card-${size}.png` });
  assert.ok(await card.getByText("PRODUCTION").last().isVisible(), "the environment is in sight with the buttons");
  await noSidewaysScrolling(page);

  await card.getByRole("button", { name: "Approve" }).click();
  await page.getByText("somebody else has to decide").last().waitFor();
  await page.screenshot({ path: `${pictures}/refused-${size}.png` });

  await become(page, "dan");
  await card.getByRole("button", { name: "Approve" }).click();
  await page.getByText("no role that approves").last().waitFor();

  await become(page, "ben");
  await card.getByRole("button", { name: "Approve" }).click();
  await card.getByText(`Session ${head} is gone.`).waitFor();
  await card.getByText(/approved by ben/).waitFor();
  assert.equal(await card.getByRole("button").filter({ hasText: /Approve|Deny|Withdraw/ }).count(), 0);
  await page.screenshot({ path: `${pictures}/done-${size}.png` });

  await become(page, "ana");
  await asks(page, "/db blocked --env production", /No session is waiting for a lock/);
  const history = await asks(page, "/db history", new RegExp(`kill ${head}`));
  const run = (await history.innerText()).match(/#(\d+)[^#]*kill/)?.[1];
  const story = await asks(page, `/db show ${run}`, /What happened/);
  const told = await story.innerText();
  for (const words of ["requested", "approved", "started", "succeeded", "ben", "ana"]) {
    assert.ok(told.includes(words), `${words} is missing in the story:\n${told}`);
  }
  await noSidewaysScrolling(page);
  await page.screenshot({ path: `${pictures}/story-${size}.png` });
}

for (const [size, viewport] of [["wide", { width: 1280, height: 900 }], ["phone", { width: 390, height: 844 }]]) {
  test(`two people end the session that holds everybody up (${size})`, async () => {
    const page = await browser.newPage({ viewport });
    page.setDefaultTimeout(30_000);
    await play(page, size);
    await page.getByRole("button", { name: "Start the sample incident again" }).click();
    await page.getByText("The incident runs again.").first().waitFor();
    await page.close();
  });
}
