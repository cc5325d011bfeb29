// The first scene, played by people in a browser: nothing but the demo's page is touched.

import assert from "node:assert/strict";
import test from "node:test";
import { asks, become, messages, noSidewaysScrolling, opens, pictures } from "./harness.mjs";

async function play(page, size) {
  await become(page, "ana");
  const blocked = await asks(page, "/db blocked --env production", /sessions are blocked by/);
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
  for (const words of ["PRODUCTION", "ana", head, "asset-worker-7", "Impact", "Rollback", "backend start"]) {
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
  await card.getByText(`Session ${head} ended.`).waitFor();
  await card.getByText(/approved by ben/).waitFor();
  assert.equal(await card.getByRole("button").filter({ hasText: /Approve|Deny|Withdraw/ }).count(), 0);
  await page.screenshot({ path: `${pictures}/done-${size}.png` });

  await become(page, "ana");
  await asks(page, "/db blocked --env production", /No session is waiting for a lock/);
  const history = await asks(page, "/db history", new RegExp(`kill ${head}`));
  const run = (await history.innerText()).match(/#(\d+)[^#]*kill/)?.[1];
  const story = await asks(page, `/db show ${run}`, /Events/);
  const told = await story.innerText();
  for (const words of ["requested", "approved", "started", "succeeded", "ben", "ana"]) {
    assert.ok(told.includes(words), `${words} is missing in the story:\n${told}`);
  }
  await noSidewaysScrolling(page);
  await page.screenshot({ path: `${pictures}/story-${size}.png` });
}

for (const size of ["wide", "phone"]) {
  test(`two people end the session that holds everybody up (${size})`, async () => {
    const page = await opens(size);
    await play(page, size);
    await page.getByRole("button", { name: "Start the sample incident again" }).click();
    await page.getByText("The incident has been started again.").first().waitFor();
    await page.close();
  });
}
