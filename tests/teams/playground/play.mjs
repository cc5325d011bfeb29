// The first scene in the page of Microsoft's Agents Playground. Started by playground.rs with the page's address, the pid of the session
// that has to go, and where pictures go; says `refused` midway, and goes on when its input ends.
//
// The page has one current user, ana, and can't change them. Ben looks at a second page, whose clicks carry his id in place of
// hers: they are real, and the id is what a client of his would send.

import { once } from "node:events";
import { chromium } from "playwright-core";

const [address, pid, pictures] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});

/** A page of the incident's chat, before which somebody sits. */
async function opens(person) {
  const page = await browser.newPage({ viewport: { width: 1500, height: 2400 } });
  page.setDefaultTimeout(30_000);
  const seat = { page, person };
  await page.route(/_conversation\/v1\//, (route) => {
    const body = route.request().postData();
    return route.continue(body ? { postData: body.replaceAll('"29:ana"', `"29:${seat.person}"`) } : {});
  });
  await page.goto(address);
  await page.getByTitle("Toggle Log Panel").click();
  await page.getByRole("treeitem", { name: "Incident 42" }).click();
  return seat;
}

const sees = async ({ page }, words) => {
  await page.getByText(words).last().waitFor().catch(async (why) => {
    throw new Error(`${words} is not to be seen, but:\n${await page.innerText("body")}`, { cause: why });
  });
};

/** Types a line behind a mention of the bot, as a person does. */
async function asks(seat, line, words) {
  const { page } = seat;
  await page.getByRole("textbox").last().click();
  await page.keyboard.type("@Coun");
  await page.getByRole("menuitem", { name: "Countersign" }).click();
  await page.keyboard.type(` ${line}`);
  await page.keyboard.press("Enter");
  await sees(seat, words);
}

const button = ({ page }, name) => page.getByRole("button", { name, exact: true }).last();
const clicks = (seat, name) => button(seat, name).click();
const keeps = ({ page }, name) => page.screenshot({ path: `${pictures}/playground-${name}.png` });

const ana = await opens("ana");
const ben = await opens("ben");
const shared = await opens("ben");
try {
  await asks(ana, "health --env production", "ana requested health");
  await keeps(ana, "1-health");
  await asks(ana, "blocked --env production", "ana requested blocked");
  await keeps(ana, "2-blocked");
  await asks(ana, `kill ${pid} --env production --reason "blocks the deploy"`, "Needs approval from");
  // The Playground never refreshes a card by itself, as Teams does: the button asks for one's own view.
  await clicks(ana, "What can I do?");
  await button(ana, "Withdraw").waitFor();
  await keeps(ana, "3-kill-ana");
  await clicks(ben, "What can I do?");
  await button(ben, "Approve").waitFor();
  await keeps(ben, "4-kill-ben");

  // Ana clicks on what was shown to ben.
  await clicks(shared, "What can I do?");
  await button(shared, "Approve").waitFor();
  shared.person = "ana";
  await clicks(shared, "Approve");
  await sees(shared, /somebody else has to decide/);
  await keeps(shared, "5-refused");
  console.log("refused");
  process.stdin.resume();
  await once(process.stdin, "end");

  await clicks(ben, "Approve");
  for (const seat of [ana, ben]) {
    await sees(seat, `Session ${pid} ended`);
    await sees(seat, /approved by ben/);
    if ((await button(seat, "Approve").count()) + (await button(seat, "Withdraw").count()) > 0) {
      throw new Error("a decided card has no buttons");
    }
    await keeps(seat, `6-updated-${seat.person}`);
  }
  await asks(ana, "history", "ana requested history");
  await keeps(ana, "7-history");
} catch (why) {
  for (const [name, seat] of Object.entries({ ana, ben, shared })) await keeps(seat, `failed-${name}`);
  throw why;
} finally {
  await browser.close();
}
