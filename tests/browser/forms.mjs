// Every acting command from a line without arguments to its card or its outcome, by taps alone, on a phone. Nothing is typed but free
// text: an age, and the name of what the demo doesn't have.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import test from "node:test";
import { asks, become, noSidewaysScrolling, opens, pictures, sidewaysInside, unseen } from "./harness.mjs";

/** The choice that a field offers first. */
const FIRST = Symbol("first");
const CARD = /Needs (?:approval|2 approvals) from/;
const STAGING = { env: "staging" };
const PRODUCTION = { env: "production" };

// In the order in which they are run: what one leaves is what another is about.
const ROWS = [
  { command: "analyze", values: { ...STAGING, service: "asset-service", table: "assets" }, words: /public\.assets is analyzed/ },
  { command: "backup", values: { ...STAGING, service: "user-service" }, words: /SHA-256/ },
  { command: "reindex", values: { ...STAGING, service: "user-service", name: FIRST }, words: /rebuilt/ },
  { command: "vacuum-full", values: { ...STAGING, service: "asset-service", table: "assets" }, words: CARD },
  { command: "purge", values: { ...STAGING, service: "auth-service", table: "login_attempts", column: "attempted_at", "older-than": "90d" }, words: CARD },
  { command: "migrate", values: { ...STAGING, service: "asset-service" }, words: CARD },
  { command: "migrate-resolve", values: { ...STAGING, service: "campaign-service", migration: FIRST, as: "applied" }, words: CARD },
  { command: "run-sql", values: { ...STAGING, file: "drop-new-field", service: "creator-service" }, words: CARD },
  { command: "reset-stats", values: { ...STAGING, service: "asset-service" }, words: CARD },
  { command: "enable-stats", values: { ...STAGING, service: "asset-service" }, words: /already has pg_stat_statements/ },
  { command: "schedule-pause", values: { ...STAGING, window: "Night" }, words: /No window is configured/ },
  { command: "schedule-resume", values: { ...STAGING, window: "Night" }, words: /No window is configured/ },
  { command: "quiet", values: { ...STAGING, finding: "asset-service: blocked" }, words: /No finding lasts/ },
  // Work that lasts, and its end.
  { command: "vacuum", values: { ...PRODUCTION, service: "auth-service", table: "login_attempts" }, words: /Running: / },
  { command: "stop", values: { run: FIRST }, words: /has ended: stopped\./ },
  // The statement that waits for the root blocker, then the root blocker itself.
  { command: "cancel", values: { ...PRODUCTION, pid: FIRST }, words: /The statement of session \d+ is/ },
  { command: "kill", values: { ...PRODUCTION, pid: FIRST }, words: CARD },
  { command: "deny", who: "ben", values: { run: FIRST }, words: /is denied/ },
  { command: "kill-idle", values: { ...PRODUCTION, "older-than": "1s" }, words: CARD },
  { command: "withdraw", values: { run: FIRST }, words: /is withdrawn/ },
  { command: "review", who: "cara", prepare: breakGlass, values: { run: FIRST }, words: /is reviewed/ },
  { command: "use", values: { environment: "staging" }, words: /now uses staging/ },
  { command: "freeze", words: /All changes are frozen/ },
  { command: "unfreeze", words: CARD },
];

let page;

test("every acting command has a row", () => {
  const table = execFileSync(process.env.COUNTERSIGN, ["commands"], { encoding: "utf8" });
  const acting = [...table.matchAll(/^\| `([a-z-]+).*` \| (?:write|danger) \|/gm)].map(([, name]) => name);
  assert.ok(acting.length > 20, table);
  assert.deepEqual(ROWS.map(({ command }) => command).sort(), acting.sort());
});

for (const row of ROWS) {
  test(`an empty ${row.command} is completed by taps alone`, async () => {
    page ??= await opens("phone");
    try {
      await run(row);
    } finally {
      // One row's form would cover the next row's page.
      const close = page.getByLabel("Close the form");
      if (await close.isVisible()) await close.click();
    }
  });
}

async function run(row) {
  await row.prepare?.();
  await become(page, row.who ?? "ana");
  await page.locator("#input").focus();
  const answer = await unseen(page);
  await page.fill("#input", `/db ${row.command}`);
  await page.locator("#send").click();
  await complete(row);
  await answer(row.words).waitFor().catch(async (why) => {
    const newest = await answer(/./).innerText({ timeout: 1_000 }).catch(() => "nothing");
    throw new Error(`${row.command}: ${row.words} was not said, but:\n${newest}`, { cause: why });
  });
  await noSidewaysScrolling(page);
  await page.screenshot({ path: `${pictures}/form-${row.command}-answer.png` });
}

/** Ends a session without approval: one that the last requested kill names. */
async function breakGlass() {
  await become(page, "ana");
  const denied = page.locator("#messages article", { hasText: /requested kill \d+/ }).last();
  const pid = (await denied.innerText()).match(/kill (\d+)/)[1];
  await asks(page, `/db break-glass kill ${pid} --env production --reason "a drill"`, / ended\./);
}

/** Fills in the forms of a row, one after another, and submits each. */
async function complete({ command, values }) {
  const form = page.locator("#modal");
  for (let left = Object.entries(values ?? {}); left.length;) {
    await form.locator(`[data-block="${left[0][0]}"]`).waitFor();
    const asked = await form.locator("[data-block]").evaluateAll((fields) => fields.map(({ dataset }) => dataset.block));
    const given = left.filter(([name]) => asked.includes(name));
    for (const [name, value] of given) await fill(form.locator(`[data-block="${name}"]`), value);
    left = left.filter(([name]) => !asked.includes(name));
    await noSidewaysScrolling(page);
    assert.deepEqual(await sidewaysInside(page, "#modal"), [], command);
    await page.screenshot({ path: `${pictures}/form-${command}-${left.length}.png` });
    const field = await form.locator(`[data-block="${given[0][0]}"]`).elementHandle();
    await form.locator("button[type=submit]").click();
    await field.waitForElementState("hidden").catch(async (why) => {
      throw new Error(`${command}: the form is not taken:\n${await form.innerText()}`, { cause: why });
    });
  }
}

/** Chooses a field's value where it has choices, and else types it. */
async function fill(field, value) {
  const input = field.locator("select, input, textarea");
  const kind = await input.evaluate((input) => (input.tagName === "SELECT" ? "select" : input.getAttribute("role")));
  if (kind === "select") return input.selectOption(value);
  if (kind !== "combobox") return input.fill(value);
  if (value === FIRST) {
    await input.click();
    return field.getByRole("option").first().click();
  }
  await input.fill(value);
  return field.locator(`[role=option][data-value="${value}"]`).click();
}
