// The demo as Teams shows it: cards drawn by Microsoft's own renderer, clicks and forms through the bot's real endpoint for Teams.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import test from "node:test";
import { accessible, become, noSidewaysScrolling, opens, pictures, sidewaysInside, unseen } from "./harness.mjs";

/** PostgreSQL's own process for a session, on this machine. */
const isThere = (pid) => existsSync(`/proc/${pid}`);

/** Waits until PostgreSQL's process has ended. */
async function ended(page, pid) {
  for (const end = Date.now() + 10_000; isThere(pid) && Date.now() < end;) await page.waitForTimeout(10);
  assert.ok(!isThere(pid), `the process of session ${pid} is still there`);
}

/** Switches to a chat, and returns a search for what appears there from then on. */
async function switchTo(page, chat) {
  await page.locator("#chats").getByRole("button", { name: chat }).click();
  await page.locator('#chats [aria-pressed="true"]', { hasText: chat }).waitFor();
  await page.locator("#channels [aria-current]", { hasText: "incident-42" }).waitFor();
  await page.locator("#input").focus();
  return unseen(page);
}

/** The message that is found now, whatever it says later. */
async function message(page, found) {
  return page.locator(`#messages article[data-ts="${await found.getAttribute("data-ts")}"]`);
}

async function type(page, line) {
  await page.fill("#input", line);
  await page.locator("#send").click();
}

async function startAgain(page) {
  await page.getByRole("button", { name: "Start the sample incident again" }).click();
  await page.getByText("The incident has been started again.").first().waitFor();
}

/** Asks for what is blocked, and requests the end of the session that blocks the others: its pid. */
async function requestKill(page, answer, prefix) {
  await type(page, `${prefix} blocked --env production`);
  const blocked = answer("sessions are blocked by");
  await blocked.waitFor();
  const pid = (await blocked.innerText()).match(/pid (\d+) \(asset-worker-7\)/)?.[1];
  assert.ok(isThere(pid), await blocked.innerText());
  await blocked.getByRole("button", { name: `Kill ${pid}` }).click();
  await answer("Needs approval from").waitFor();
  return pid;
}

for (const size of ["wide", "phone"]) {
  test(`two people end the session that holds everybody up, in Teams (${size})`, async () => {
    const page = await opens(size);
    const problems = [];
    page.on("pageerror", (error) => problems.push(error));
    page.on("console", (line) => { if (line.type() === "error") problems.push(line.text()); });
    await startAgain(page);
    const answer = await switchTo(page, "Teams");
    await become(page, "ana");
    await type(page, "@Countersign health --env production");
    await answer(/requested health on/).locator(".ac-adaptiveCard").waitFor();
    const pid = await requestKill(page, answer, "@Countersign");
    const card = await message(page, answer("Needs approval from"));
    await card.getByRole("button", { name: "Withdraw" }).waitFor();
    assert.equal(await card.getByRole("button", { name: "Approve" }).count(), 0, "a requester's view has no approval");
    for (const words of ["PRODUCTION", "ana", pid, "asset-worker-7", "Impact", "Rollback"]) {
      assert.ok((await card.innerText()).includes(words), `${words} is missing on the card:\n${await card.innerText()}`);
    }
    await noSidewaysScrolling(page);
    assert.deepEqual(await sidewaysInside(page), []);
    await page.screenshot({ path: `${pictures}/teams-card-${size}.png` });
    assert.ok(isThere(pid), "it isn't ended before the approval");
    await become(page, "ben");
    await card.getByRole("button", { name: "Approve" }).click();
    await card.getByText(new RegExp(`Session ${pid} ended`)).waitFor();
    await ended(page, pid);
    await accessible(page, `teams-${size}`);
    assert.deepEqual(problems, []);
    await page.close();
  });
}

test("a request made in Slack is approved in Teams, and both chats show it", async () => {
  const page = await opens("wide");
  await startAgain(page);
  await page.locator("#input").focus();
  const inSlack = await unseen(page);
  await become(page, "ana");
  const pid = await requestKill(page, inSlack, "/db");
  const run = (await inSlack("Needs approval from").innerText()).match(/#(\d+)/)[1];
  await become(page, "ben");
  const inTeams = await switchTo(page, "Teams");
  await type(page, `@Countersign show ${run}`);
  await inTeams(`kill ${pid}`).getByRole("button", { name: "Approve" }).click();
  await inTeams(new RegExp(`Session ${pid} ended`)).waitFor();
  await ended(page, pid);
  await switchTo(page, "Slack");
  await inSlack(new RegExp(`Session ${pid} ended`)).getByText(/approved by ben/).waitFor();
  await page.close();
});

test("an empty kill reaches its card by a form in Teams, on a phone", async () => {
  const page = await opens("phone");
  await startAgain(page);
  const answer = await switchTo(page, "Teams");
  await type(page, "@Countersign kill");
  const form = await message(page, answer("Only visible to you"));
  const submit = (name) => form.getByRole("button", { name }).click();
  await form.getByLabel("Environment").waitFor();
  await submit("Next");
  await form.getByText("Environment is required.").waitFor();
  await form.getByLabel("Environment").selectOption("production");
  await submit("Next");
  await form.getByLabel("Pid").click();
  const worst = form.locator(".ac-choiceSetInput-choice").first();
  await worst.filter({ hasText: /asset-worker-7 · .* waiting/ }).waitFor();
  await noSidewaysScrolling(page);
  await accessible(page, "teams-form");
  // Drawn again in another scheme, the list is closed.
  await form.getByLabel("Pid").click();
  await worst.filter({ hasText: /asset-worker-7/ }).click();
  await submit("Request approval");
  const card = await message(page, answer("Needs approval from"));
  await card.getByRole("button", { name: "Withdraw" }).click();
  await card.getByText(/withdrawn/i).first().waitFor();
  await page.close();
});
