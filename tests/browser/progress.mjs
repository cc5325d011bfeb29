// Long work, watched and stopped by people in a browser, on a phone: its progress moves in one message, and what a stop says was
// done is what PostgreSQL says.

import assert from "node:assert/strict";
import test from "node:test";
import { asks, become, messages, noSidewaysScrolling, opens, pictures } from "./harness.mjs";

const VALUES = 2;
let page;

function scene(what, play) {
  test(what, async () => {
    page = await opens("phone");
    await become(page, "ana");
    await play();
    await page.close();
  });
}

/** A message that stays the same one, however often it is edited; and its run. */
async function message(article) {
  const ts = await article.getAttribute("data-ts");
  const card = page.locator(`#messages article[data-ts="${ts}"]`);
  const run = (await card.innerText()).match(/#(\d+)/)?.[1];
  assert.ok(run, "the message has its run's number");
  return { ts, card, run };
}

/** Asks for what runs at once. */
async function begins(line) {
  return message(await asks(page, line, /^Running: /));
}

/** Asks as ana, and ben approves. */
async function approved(line) {
  const work = await message(await asks(page, line, /Needs approval from/));
  await become(page, "ben");
  await work.card.getByRole("button", { name: "Approve" }).click();
  await work.card.getByText(/approved by ben/).waitFor();
  return work;
}

/** The first values that the message shows, each another than the one before. */
async function values({ ts }, pattern) {
  const seen = [];
  while (seen.length < VALUES) {
    const next = await page.waitForFunction(([ts, pattern, last]) => {
      const text = document.querySelector(`#messages article[data-ts="${ts}"]`)?.innerText ?? "";
      const value = text.match(new RegExp(pattern))?.[1];
      return value !== undefined && value !== last && { value };
    }, [ts, pattern, seen.at(-1)]);
    seen.push((await next.jsonValue()).value);
  }
  return seen.map(Number);
}

/** Its progress is seen to grow, in that one message. */
async function moves(work, pattern, name) {
  const had = await messages(page).count();
  const seen = await values(work, pattern);
  for (const [at, value] of seen.entries()) {
    assert.ok(at === 0 || value > seen[at - 1], `it grows: ${seen.join(", ")}`);
  }
  assert.equal(await messages(page).count(), had, "no second message");
  assert.equal(await work.card.getByText("(edited)").count(), 1);
  await work.card.scrollIntoViewIfNeeded();
  await noSidewaysScrolling(page);
  await page.screenshot({ path: `${pictures}/${name}-progress.png` });
  return seen;
}

/** Stops it, and returns what its own message then says. */
async function stops(work, name) {
  await become(page, "ana");
  await asks(page, `/db stop ${work.run}`, new RegExp(`Run #${work.run} has ended: stopped\\.`));
  await work.card.getByText("Running: ").waitFor({ state: "detached" });
  await page.screenshot({ path: `${pictures}/${name}-stopped.png` });
  await asks(page, "/db jobs", /No runs are in progress\./);
  return work.card.innerText();
}

scene("a vacuum moves and is stopped", async () => {
  const work = await begins("/db vacuum auth-service login_attempts --env production");
  await moves(work, "(\\d+) %", "vacuum");
  const told = await stops(work, "vacuum");
  assert.match(told, /Stopped: public\.login_attempts is not vacuumed and analyzed\./);
  assert.match(told, /Dead rows removed before the stop stay removed/);
  await asks(page, "/db autovacuum auth-service --env production", /login_attempts is due/);
});

scene("a reindex moves and is stopped", async () => {
  const work = await begins("/db reindex auth-service login_attempts_device_idx --env production");
  await moves(work, "(\\d+) %", "reindex");
  const told = await stops(work, "reindex");
  assert.match(told, /Stopped: public\.login_attempts_device_idx is not rebuilt\./);
  assert.match(told, /Dropped leftover public\.login_attempts_device_idx_ccnew \(.+\) of an interrupted rebuild\./);
  const left = await (await asks(page, "/db indexes auth-service --env production", /login_attempts_device_idx/)).innerText();
  assert.doesNotMatch(left, /_ccnew/);
});

scene("a purge moves and is stopped", async () => {
  const line = "/db purge auth-service login_attempts --column attempted_at --older-than 90d --env production";
  const work = await approved(line);
  await work.card.getByText("login_attempts --column attempted_at --older-than 90d").waitFor();
  await moves(work, "(\\d+) %", "purge");
  const told = await stops(work, "purge");
  const [gone, all] = (told.match(/Stopped, as asked\. ([\d,]+) rows of ([\d,]+) were deleted/) ?? []).slice(1)
    .map((number) => Number(number.replaceAll(",", "")));
  assert.ok(gone > 0 && gone < all, told);
  const rest = await (await asks(page, `${line} --dry-run`, /Deletes/)).innerText();
  const left = Number(rest.match(/Deletes ([\d,]+) rows/)[1].replaceAll(",", ""));
  // Since then rows have grown old enough: one in a minute or two.
  assert.ok(left >= all - gone && left < all - gone + 100, `${left} are left of ${all} without ${gone}`);
});

scene("a migration moves and is stopped", async () => {
  const work = await approved("/db migrate auth-service --env production");
  await moves(work, "(\\d+) of 5 applied", "migrate");
  const told = await stops(work, "migrate");
  const applied = told.match(/(\d) of 5 migrations applied to auth_service_db when it was stopped/)?.[1];
  assert.ok(applied > 0 && applied < 5, told);
  assert.match(told, /Its session ended|uncommitted changes were rolled back/);
  const ledger = await (await asks(page, "/db migrations auth-service --env production", /did not finish/)).innerText();
  // With the three of the sample.
  assert.equal(Number(ledger.match(/1 failed · applied (\d+)/)?.[1]), 3 + Number(applied), ledger);
});

scene("what help shows as an example works in the demo's staging", async () => {
  await asks(page, "/db vacuum asset-service assets --env staging", /public\.assets is vacuumed and analyzed/);
  const sql = await approved('/db run-sql drop-new-field asset-service --env staging --reason "rolls the migration back"');
  await sql.card.getByRole("img", { name: "green check" }).waitFor();
  await become(page, "ana");
  assert.match(await (await asks(page, "/db migrate asset-service --env staging --dry-run", /Applies 5 migrations/)).innerText(), /none failed/);
});
