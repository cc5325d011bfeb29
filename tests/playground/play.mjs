// The first scene in the page of Microsoft's Agents Playground. Started by main.rs with the page's address, the pid of the session
// that has to go, and where pictures go; says `refused` midway and goes on when its input ends.
//
// The page has one current user, ana, and can't change them. Ben looks at a second page, whose requests carry his id in place of
// hers: the clicks are real, the id is what a client of his would send.

import { once } from "node:events";
import { chromium } from "playwright-core";

const [address, pid, pictures] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});

async function opens(name) {
  const page = await browser.newPage({ viewport: { width: 1500, height: 1100 } });
  page.setDefaultTimeout(30_000);
  if (name !== "ana") {
    await page.route(/_conversation\/v1\//, (route) => {
      const body = route.request().postData();
      return route.continue(body ? { postData: body.replaceAll('"29:ana"', `"29:${name}"`) } : {});
    });
  }
  await page.goto(address);
  await page.getByTitle("Toggle Log Panel").click();
  await page.getByRole("treeitem", { name: "Incident 42" }).click();
  return page;
}

async function sees(page, words) {
  await page.getByText(words).last().waitFor().catch(async (why) => {
    await page.screenshot({ path: `${pictures}/playground-failed.png` });
    throw new Error(`${words} is not to be seen, but:\n${await page.innerText("body")}`, { cause: why });
  });
}

/** Types a line behind a mention of the bot, as a person does. */
async function asks(page, line, words) {
  await page.getByRole("textbox").last().click();
  await page.keyboard.type("@Coun");
  await page.locator("#typeahead-item-0, [role=option]").first().click();
  await page.keyboard.type(` ${line}`);
  await page.keyboard.press("Enter");
  await sees(page, words);
}

const keeps = async (page, name) => {
  await page.waitForLoadState("networkidle");
  await page.screenshot({ path: `${pictures}/playground-${name}.png` });
};

const clicks = (page, button) => page.getByRole("button", { name: button, exact: true }).last().click();

try {
  const ana = await opens("ana");
  const ben = await opens("ben");
  await asks(ana, "health --env production", "ana asked health");
  await keeps(ana, "1-health");
  await asks(ana, "blocked --env production", "ana asked blocked");
  await keeps(ana, "2-blocked");
  await asks(ana, `kill ${pid} --env production --reason "blocks the deploy"`, "Hurts");
  await keeps(ana, "3-kill");
  await clicks(ana, "Approve");
  await sees(ana, /somebody else has to decide/);
  await keeps(ana, "4-refused");
  console.log("refused");
  process.stdin.resume();
  await once(process.stdin, "end");
  await keeps(ben, "5-ben");
  await clicks(ben, "Approve");
  for (const [name, page] of Object.entries({ ana, ben })) {
    await sees(page, new RegExp(`Session ${pid} is gone`));
    await sees(page, /approved by ben/);
    await keeps(page, `6-updated-${name}`);
  }
  await asks(ana, "history", new RegExp(`kill ${pid}.*succeeded`));
  await keeps(ana, "7-history");
} finally {
  await browser.close();
}
