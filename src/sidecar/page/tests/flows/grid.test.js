import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { addDays } from "../../app/times.js";
import { call, closeBrowser, look, reserve, serve, until } from "./harness.js";
import { cell, importTown, nameOf, today, tomorrow } from "./town.js";

/** @type {import("./harness.js").Server} */
let server;
const busy = nameOf("centre", "delivery", tomorrow, 8);

before(async () => {
  server = await serve();
  await importTown(server);
  await reserve(server, busy, { orders: 12, items: 90 });
  await reserve(server, busy, { orders: 3, items: 20 }, { hold: 3600 });
});
after(async () => {
  await closeBrowser();
  await server.stop();
});

test("zones and kinds are rows, two weeks of days and slots are columns", async () => {
  const { page, shot, done } = await look(server);
  await cell(page, busy).waitFor();
  const headings = await page.getByRole("rowheader").allTextContents();
  assert.deepEqual(headings.map((text) => text.replace("▾", "").trim()), [
    ...["centre", "delivery", "pickup"],
    ...["lakes", "delivery", "pickup"],
    ...["north", "delivery", "pickup"],
  ]);
  assert.equal(await page.locator(".header .day").count(), 14);
  assert.equal(await page.getByRole("grid").getAttribute("aria-rowcount"), "10");
  const label = await cell(page, busy).getAttribute("aria-label");
  assert.match(label ?? "", /08:00–10:00: 12 confirmed, 3 held of 20 orders, 5 free/);
  await shot("grid-light");
  await done();
});

test("a cell shows confirmed, held and free, and marks what is unusual", async () => {
  const [closed, past, shadow, over] = [10, 12, 14, 16].map((hour) => nameOf("north", "delivery", tomorrow, hour));
  await reserve(server, over, { orders: 20 });
  await call(server, "PATCH", `/v1/pools/${closed}`, { state: "closed" });
  await call(server, "PATCH", `/v1/pools/${past}`, { closes_at: new Date(Date.now() - 60_000).toISOString() });
  await call(server, "PATCH", `/v1/pools/${shadow}`, { mode: "shadow" });
  await call(server, "PATCH", `/v1/pools/${over}`, { limits: { orders: 8 } });
  const { page, shot, done } = await look(server, { path: "/#/grid?zoom=4" });
  await cell(page, over).waitFor();
  for (const [name, mark] of /** @type {[string, string][]} */ ([[closed, "closed"], [past, "past"], [shadow, "shadow"], [over, "over"]])) {
    assert.match((await cell(page, name).getAttribute("class")) ?? "", new RegExp(`\\b${mark}\\b`), name);
  }
  assert.match((await cell(page, over).getAttribute("aria-label")) ?? "", /12 over, over its limit/);
  const parts = await cell(page, busy).evaluate((element) => ["--c", "--h", "--o"].map((name) => Number(element.style.getPropertyValue(name))));
  assert.deepEqual(parts.map((part) => Math.round(part * 100)), [60, 15, 0]);
  await shot("grid-marks");
  await done();
});

test("a change arrives by itself, and the lag is shown", async () => {
  const { page, done } = await look(server);
  const quiet = nameOf("lakes", "pickup", tomorrow, 13);
  await cell(page, quiet).waitFor();
  await page.locator(".connection.live").waitFor();
  const began = Date.now();
  await reserve(server, quiet, { orders: 7 });
  await until(() => cell(page, quiet).getAttribute("aria-label"), (label) => /7 confirmed/.test(label ?? ""), "the cell");
  console.log(`# the change was in the grid after ${Date.now() - began} ms`);
  await until(() => page.locator(".connection").textContent(), (text) => /live, .* behind/.test(text ?? ""), "the lag");
  await call(server, "PATCH", `/v1/pools/${quiet}`, { state: "closed" });
  await until(() => cell(page, quiet).getAttribute("class"), (text) => /closed/.test(text ?? ""), "the mark");
  await done();
});

test("a server that says nothing is noticed, before and after its connection is taken for lost", async (t) => {
  t.after(() => server.goOn());
  const { page, shot, done } = await look(server);
  const quiet = nameOf("lakes", "pickup", tomorrow, 9);
  const mark = page.locator(".connection");
  await cell(page, quiet).waitFor();
  for (const [ordered, state] of /** @type {const} */ ([[2, "silent"], [5, "lost"]])) {
    await page.locator(".connection.live").waitFor();
    server.halt();
    await mark.filter({ hasText: /nothing heard for \d+ s/ }).waitFor();
    await page.locator(`.connection.${state}`).waitFor();
    await shot(`connection-${state}`);
    server.goOn();
    await reserve(server, quiet, { orders: ordered });
    await page.locator(".connection.live").waitFor();
  }
  await until(() => cell(page, quiet).getAttribute("aria-label"), (label) => /7 confirmed/.test(label ?? ""), "the cell");
  await done();
});

test("after the server was killed the page comes back by itself, with what changed meanwhile", async () => {
  const { page, shot, done } = await look(server, { expected: /Failed to load resource|net::ERR|INCOMPLETE/ });
  const name = nameOf("lakes", "pickup", tomorrow, 17);
  await cell(page, name).waitFor();
  await page.locator(".connection.live").waitFor();
  await server.kill();
  await page.locator(".connection.lost").waitFor();
  await shot("connection-lost");
  assert.ok(await cell(page, name).isVisible(), "the grid stays");
  const { engine, origin, data } = server;
  server = await serve({ data, engine, http: origin.replace("http://", "") });
  await reserve(server, name, { orders: 9 });
  await page.locator(".connection.live").waitFor({ timeout: 30_000 });
  await until(() => cell(page, name).getAttribute("aria-label"), (label) => /9 confirmed/.test(label ?? ""), "the cell");
  await done();
});

test("a server on other data is followed too", async () => {
  let other = await serve();
  await importTown(other);
  const { page, done } = await look(other, { expected: /Failed to load resource|net::ERR|INCOMPLETE/ });
  await cell(page, busy).waitFor();
  await page.locator(".connection.live").waitFor();
  await other.stop();
  other = await serve({ engine: other.engine, http: other.origin.replace("http://", "") });
  await importTown(other, { zones: [["elsewhere", "555"]] });
  const name = nameOf("elsewhere", "delivery", tomorrow, 8);
  await cell(page, name).waitFor({ timeout: 30_000 });
  await page.locator(".connection.live").waitFor();
  assert.equal(await cell(page, busy).count(), 0);
  await reserve(other, name, { orders: 4 });
  await until(() => cell(page, name).getAttribute("aria-label"), (label) => /4 confirmed/.test(label ?? ""), "the cell");
  await done();
  await other.stop();
});

test("the keyboard moves, selects and opens", async () => {
  const { page, done } = await look(server);
  await cell(page, busy).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowRight");
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute("data-name"));
  assert.equal(await focused(), busy);
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  assert.equal(await focused(), nameOf("centre", "pickup", tomorrow, 9));
  await page.keyboard.press("Control+ArrowRight");
  assert.equal(await focused(), nameOf("centre", "pickup", addDays(tomorrow, 1), 9));
  await page.keyboard.press("Control+End");
  assert.equal(await focused(), nameOf("north", "pickup", addDays(today, 13), 17));
  await page.keyboard.press("Enter");
  await page.getByRole("complementary").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("complementary").waitFor({ state: "detached" });
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("Control+a");
  assert.match((await page.locator(".selection-bar").textContent()) ?? "", /351 pools in 3 zones/);
  await page.keyboard.press("Escape");
  await page.locator(".selection-bar").waitFor({ state: "detached" });
  await page.keyboard.press("/");
  await page.keyboard.type("lakes pick");
  await until(() => page.getByRole("rowheader").count(), (count) => count === 2, "rows of the filter");
  await done();
});

test("the drawer leaves its pool in sight", async () => {
  const { page, done } = await look(server, { size: [1024, 700] });
  const far = cell(page, nameOf("centre", "delivery", addDays(tomorrow, 8), 8));
  await far.click();
  const drawer = await page.getByRole("complementary").boundingBox();
  await until(() => far.boundingBox(), (box) => box !== null && drawer !== null && box.x + box.width <= drawer.x, "the cell's place");
  await done();
});

test("where there are no pools, the page says so and leads to some", async () => {
  const { page, shot, done } = await look(server, { path: "/#/grid?from=2031-01-01" });
  await page.getByText("No pools from 1 Jan").waitFor();
  await page.getByRole("button", { name: "To the first" }).waitFor();
  await shot("grid-empty");
  await page.getByRole("button", { name: "To the first" }).click();
  await cell(page, busy).waitFor();
  await page.getByLabel("Filter zones, kinds, pools").fill("nowhere");
  await page.getByText("Nothing fits “nowhere”").waitFor();
  await done();
});

test("thousands of pools: only what is in sight is in the document", async () => {
  const zones = Array.from({ length: 40 }, (_, index) => /** @type {[string, string]} */ ([`zone-${index + 1}`, String(500 + index)]));
  const imported = await importTown(server, { zones });
  assert.equal(imported.created, 40 * 14 * 9);
  const { page, shot, done } = await look(server, { dark: true });
  await until(() => page.locator(".status").textContent(), (text) => /5,\d{3} pools/.test(text ?? ""), "the count of pools");
  const count = () => page.locator(".cell").count();
  assert.ok((await count()) < 1_500, `${await count()} cells`);
  await page.getByRole("grid").evaluate((grid) => (grid.scrollTop = grid.scrollHeight));
  await cell(page, nameOf("zone-40", "pickup", tomorrow, 9)).waitFor();
  assert.ok((await count()) < 1_500, `${await count()} cells`);
  await page.keyboard.press("Control+Home");
  await cell(page, busy).waitFor();
  await shot("grid-dark");
  await done();
});
