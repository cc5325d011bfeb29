// The first scene, played by people in a browser: nothing but the demo's page is touched.

import assert from "node:assert/strict";
import test from "node:test";
import { accessible, asks, become, messages, noSidewaysScrolling, opens, pictures, shows, sidewaysInside, unseen } from "./harness.mjs";

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
  await card.getByText(new RegExp(`Session ${head} ended. The \\d+ sessions behind it are no longer blocked.`)).waitFor();
  await card.getByText(/approved by ben/).waitFor();
  assert.equal(await card.getByRole("button").filter({ hasText: /Approve|Deny|Withdraw/ }).count(), 0);
  await page.getByText(/^The incident is over/).waitFor();
  await page.screenshot({ path: `${pictures}/done-${size}.png` });

  await become(page, "ana");
  await asks(page, "/db blocked --env production", /No session is waiting for a lock/);
  const history = await asks(page, "/db history", new RegExp(`kill ${head}`));
  const run = (await history.innerText()).match(/kill[^#]*#(\d+)/)?.[1];
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

test("the first scene takes one typed line and four taps on a phone", async () => {
  const page = await opens("phone");
  const answer = await unseen(page);
  let taps = 0;
  const tap = async (target) => { taps += 1; await target.click(); };
  await page.getByText(/^Production: a migration has been stuck for .+; users see time-outs\.$/).waitFor();
  await page.keyboard.type("/db blocked --env production");
  await tap(page.locator("#send"));
  await tap(answer("sessions are blocked by").getByRole("button", { name: /^Kill / }));
  await answer("Needs approval from").getByRole("button", { name: "Approve" }).waitFor();
  await tap(page.locator("#people .person", { hasText: "ben" }));
  await tap(answer("Needs approval from").getByRole("button", { name: "Approve" }));
  await answer(/Session \d+ ended\./).waitFor();
  await page.getByText(/^The incident is over/).waitFor();
  assert.equal(taps, 4);
  await noSidewaysScrolling(page);
  assert.deepEqual(await sidewaysInside(page), []);
  await page.getByRole("button", { name: "Countersign: home" }).click();
  const home = page.locator("article.home");
  await home.getByText("No requests are waiting for you.").waitFor();
  await home.getByText("Last changes").waitFor();
  await noSidewaysScrolling(page);
  await accessible(page, "home");
  await home.getByRole("button", { name: "Health of staging" }).click();
  await answer(/requested health on/).waitFor();
  await page.locator("#channels button", { hasText: "incident-42" }).click();
  await answer(/Session \d+ ended\./).waitFor();
  await accessible(page, "scene");
  await page.close();
});

test("an empty kill reaches its card by taps alone on a phone", async () => {
  const page = await opens("phone");
  await page.getByRole("button", { name: "Start the sample incident again" }).click();
  await page.getByText("The incident has been started again.").first().waitFor();
  await page.locator("#input").focus();
  const answer = await unseen(page);
  const form = page.locator("#modal");
  const submit = (name) => form.getByRole("button", { name }).click();
  await page.keyboard.type("/db kill");
  await page.locator("#send").click();
  await form.getByLabel("Environment").waitFor();
  await submit("Next");
  await form.getByText("Please complete this required field.").waitFor();
  await form.getByLabel("Environment").selectOption("production");
  await submit("Next");
  await form.getByLabel("Pid").click();
  const worst = form.getByRole("option").first();
  await worst.filter({ hasText: /asset-worker-7 · .* waiting/ }).waitFor();
  await accessible(page, "form");
  await form.getByLabel("Pid").click();
  await worst.filter({ hasText: /asset-worker-7/ }).click();
  await noSidewaysScrolling(page);
  await submit("Request approval");
  await answer("Needs approval from").getByRole("button", { name: "Approve" }).waitFor();
  await form.waitFor({ state: "hidden" });
  const card = answer("Needs approval from");
  // The menu of a message asks about the session that it names.
  const pid = (await card.innerText()).match(/kill (\d+)/)[1];
  await page.fill("#input", `pid ${pid} looks stuck`);
  await page.locator("#send").click();
  const talk = answer(`pid ${pid} looks stuck`);
  await talk.getByLabel("More actions").click();
  await accessible(page, "menu");
  if (!(await talk.locator("details[open]").count())) await talk.getByLabel("More actions").click();
  await talk.getByRole("button", { name: "Ask about this session" }).click();
  await answer("Which environment?").getByRole("button", { name: "production" }).click();
  await answer(new RegExp(`requested locks ${pid}`)).waitFor();
  await noSidewaysScrolling(page);
  await card.getByRole("button", { name: "Withdraw" }).click();
  await page.close();
});

test("commands, arguments, services and environments are completed", async () => {
  const page = await opens("wide");
  const completes = async (line, expected) => {
    await page.fill("#input", line);
    await shows(page, "#suggestions li code", expected);
  };
  for (const [line, expected] of [
    ["/db blo", ["/db bloat", "/db blocked"]],
    ["/db bloat as", ["/db bloat asset-service"]],
    ["/db blocked --e", ["/db blocked --env"]],
    ["/db blocked --env ", ["/db blocked --env production", "/db blocked --env staging"]],
    ["/db help kill-", ["/db help kill-idle"]],
    ["/db kill 4711 --dry", ["/db kill 4711 --dry-run"]],
    ["/db blocked --env staging --e", []],
    ["/db 'no such command' ", []],
    ["talk of /db ", []],
  ]) {
    await completes(line, expected);
  }
  await completes("/db autov", ["/db autovacuum"]);
  await page.keyboard.press("Tab");
  await page.waitForFunction(() => document.querySelector("#input").value === "/db autovacuum ");
  await page.getByRole("button", { name: "Dark" }).click();
  await page.locator("html[data-scheme=dark]").waitFor();
  await page.getByRole("button", { name: "Dark" }).click();
  await page.evaluate(() => localStorage.clear());
  await page.close();
});

test("each step of the guide is one click", async () => {
  const page = await opens("wide");
  const answer = await unseen(page);
  await page.getByRole("button", { name: "Start the sample incident again" }).click();
  await page.getByText("The incident has been started again.").first().waitFor();
  for (const [taken, words] of [/sessions are waiting for a lock/, /sessions are blocked by/, /Needs approval from/,
    /somebody else has to decide/, /Session \d+ ended\./, /No session is waiting for a lock/].entries()) {
    await page.locator("#steps li:not(.done) button").first().click();
    await answer(words).waitFor();
    await page.locator("#steps li.done").nth(taken).waitFor();
  }
  await accessible(page, "guide");
  await page.close();
});
