// Every golden answer on a phone, drawn by the demo's page, and the colours of Microsoft's client. The Rust tests leave the answers.

import assert from "node:assert/strict";
import { readFileSync, readdirSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import test from "node:test";
import { chromium } from "playwright-core";

const page_files = "src/demo/fake_slack";
const answers_file = join(dirname(process.env.COUNTERSIGN), "../payloads/golden.jsonl");
const MAX_SCROLLING = 2;

async function phone(browser) {
  const page = await browser.newPage({ viewport: { width: 390, height: 844 } });
  await page.route("**/*", (route) => {
    const { pathname } = new URL(route.request().url());
    if (pathname === "/") {
      const body = '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/page.css"><div id="messages"></div>';
      return route.fulfill({ contentType: "text/html", body });
    }
    const contentType = pathname.endsWith(".css") ? "text/css" : "text/javascript";
    return route.fulfill({ contentType, body: readFileSync(page_files + pathname) });
  });
  await page.goto("http://phone.test/");
  return page;
}

test("every answer reads on a phone", async () => {
  const answers = readFileSync(answers_file, "utf8").trim().split("\n").map((line) => JSON.parse(line).body);
  assert.ok(answers.length >= 29, `only ${answers.length} answers`);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
  try {
    const page = await phone(browser);
    const drawn = await page.evaluate(async (answers) => {
      const { blocks, el } = await import("/blocks.js");
      return answers.map((answer) => {
        const content = el("div", { class: "content" }, blocks(answer.blocks, () => {}));
        const message = el("article", { class: "message" }, el("span", { class: "avatar bot" }), content);
        document.getElementById("messages").append(message);
        const right = content.getBoundingClientRect().right + 1;
        const inside = (node) => !node || node.getBoundingClientRect().right <= right;
        const scrolls = (node) => node.clientWidth > 0 && node.scrollWidth > node.clientWidth + 1
          && ["auto", "scroll"].includes(getComputedStyle(node).overflowX);
        return {
          text: answer.text,
          scrolls: [...content.querySelectorAll("*")].some(scrolls),
          verdict: inside(content.children[1]),
          columns: [...content.querySelectorAll("tr")].every((row) => inside(row.children[0]) && inside(row.children[1])),
        };
      });
    }, answers);
    const names = (wanted) => drawn.filter(wanted).map((answer) => answer.text);
    assert.deepEqual(names((answer) => !answer.verdict || !answer.columns), [], "a verdict or a first column is out of sight");
    const scrolling = names((answer) => answer.scrolls);
    assert.ok(scrolling.length <= MAX_SCROLLING, `${scrolling.length} answers scroll sideways:\n${scrolling.join("\n")}`);
    mkdirSync("target/pictures", { recursive: true });
    await page.locator("#messages").screenshot({ path: "target/pictures/answers-phone.png" });
  } finally {
    await browser.close();
  }
});

// Colours as Adaptive Cards write them: #RRGGBB or #AARRGGBB, upon another colour.
function blended(colour, below) {
  const hex = colour.slice(1).padStart(8, "f");
  const [alpha, ...parts] = [0, 2, 4, 6].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return parts.map((part, at) => (part * alpha + below[at] * (255 - alpha)) / 255);
}

function luminance(colour) {
  const linear = colour.map((part) => (part / 255 <= 0.03928 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

function contrast(colour, background) {
  const [light, dark] = [luminance(colour), luminance(background)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

test("text is legible on each background of a card in Microsoft's client", () => {
  const directory = "node_modules/@microsoft/m365agentsplayground/dist/client/static/js";
  const name = readdirSync(directory).find((file) => /^main\..*\.js$/.test(file));
  const source = readFileSync(join(directory, name), "utf8");
  const start = source.indexOf('"containerStyles":{') + '"containerStyles":'.length;
  let [depth, end] = [0, start];
  do depth += { "{": 1, "}": -1 }[source[end++]] ?? 0; while (depth > 0);
  const styles = JSON.parse(source.slice(start, end));
  const page = blended(styles.default.backgroundColor, [255, 255, 255]);
  for (const style of ["default", "emphasis", "good", "warning", "attention"]) {
    const background = blended(styles[style].backgroundColor, page);
    for (const [kind, colour] of Object.entries(styles[style].foregroundColors.default)) {
      if (typeof colour !== "string") continue;
      const ratio = contrast(blended(colour, background), background);
      assert.ok(ratio >= 4.5, `${kind} text on ${style}: ${ratio.toFixed(1)}:1`);
    }
  }
});
