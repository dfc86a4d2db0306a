import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { parseCsv } from "../../app/csv.js";
import { call, closeBrowser, look, reserve, serve, until } from "./harness.js";
import { cell, clock, importTown, nameOf, tomorrow } from "./town.js";

/** @type {import("./harness.js").Server} */
let server;
const name = nameOf("centre", "delivery", tomorrow, 8);
const CONFLICT = /412 \(Precondition Failed\)/;

before(async () => {
  server = await serve();
  await importTown(server);
  for (let order = 1; order <= 17; order += 1) await reserve(server, name, { orders: 1, items: 10 }, { reference: `order-${order}` });
});
after(async () => {
  await closeBrowser();
  await server.stop();
});

/** @param {string} pool */
const stored = (pool) => call(server, "GET", `/v1/pools/${pool}`);

test("limits are edited with a preview of the effect", async () => {
  const { page, shot, done } = await look(server);
  await cell(page, name).click();
  const drawer = page.getByRole("complementary");
  await drawer.getByLabel("limit of orders").fill("5");
  await drawer.getByText("12 over").waitFor();
  await shot("pool-preview");
  await drawer.getByLabel("limit of orders").fill("x");
  await drawer.getByText("a whole number, 0 or more").waitFor();
  assert.ok(await drawer.getByRole("button", { name: "Save" }).isDisabled());
  await drawer.getByLabel("limit of orders").fill("5");
  await drawer.getByLabel("overbooking of orders").fill("2");
  await drawer.getByText("10 over").waitFor();
  await drawer.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  const pool = await stored(name);
  assert.deepEqual([pool.limits, pool.overbook.orders, pool.remaining.orders], [{ orders: 5, items: 300 }, 2, -10]);
  await until(() => cell(page, name).getAttribute("class"), (text) => /\bover\b/.test(text ?? ""), "the mark");
  await done();
});

test("closing time and mode are edited, a pool is closed and opened", async () => {
  const { page, done } = await look(server);
  const other = nameOf("centre", "delivery", tomorrow, 10);
  await cell(page, other).click();
  const drawer = page.getByRole("complementary");
  await drawer.getByLabel("closes", { exact: true }).fill(`${tomorrow}T07:30`);
  await drawer.getByLabel("mode").selectOption("shadow");
  await drawer.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  const pool = await stored(other);
  assert.equal(Date.parse(pool.closes_at), clock.instant(tomorrow, 450));
  assert.equal(pool.mode, "shadow");
  await drawer.getByRole("button", { name: "Close for sale" }).click();
  await drawer.getByRole("button", { name: "Open for sale" }).waitFor();
  assert.equal((await stored(other)).state, "closed");
  await drawer.getByRole("button", { name: "Open for sale" }).click();
  await drawer.getByRole("button", { name: "Close for sale" }).waitFor();
  assert.equal((await stored(other)).state, "open");
  await done();
});

test("a concurrent edit is noticed, both versions are shown, nothing is overwritten silently", async () => {
  const { page, shot, done } = await look(server, { expected: CONFLICT });
  const pool = nameOf("centre", "delivery", tomorrow, 12);
  await cell(page, pool).click();
  const drawer = page.getByRole("complementary");
  await drawer.getByLabel("limit of orders").fill("25");
  await call(server, "PATCH", `/v1/pools/${pool}`, { limits: { orders: 18 }, state: "closed" });
  // Noticed by the live stream already, before anything is saved.
  await drawer.getByText("Somebody else changed this pool while you were editing").waitFor();
  const row = drawer.getByRole("row", { name: /limit of orders/ });
  assert.deepEqual(await row.getByRole("cell").allTextContents(), ["20", "25", "18"]);
  await shot("pool-conflict");
  await drawer.getByRole("button", { name: "Put my changes on top of theirs" }).click();
  await drawer.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  const now = await stored(pool);
  assert.deepEqual([now.limits.orders, now.state], [25, "closed"]);
  await done();
});

test("an edit that the stream has not told of is refused by its version", async () => {
  const { page, done } = await look(server, { expected: CONFLICT });
  const pool = nameOf("centre", "delivery", tomorrow, 14);
  await cell(page, pool).click();
  const drawer = page.getByRole("complementary");
  await drawer.getByLabel("limit of orders").fill("25");
  // Between the click and the server, somebody else is faster.
  await page.route(`**/v1/pools/${encodeURIComponent(pool)}`, async (route) => {
    if (route.request().method() === "PATCH") await call(server, "PATCH", `/v1/pools/${pool}`, { limits: { orders: 11 } });
    await route.continue();
  }, { times: 1 });
  await drawer.getByRole("button", { name: "Save" }).click();
  await drawer.getByText("Somebody else changed this pool while you were editing").waitFor();
  assert.equal((await stored(pool)).limits.orders, 11);
  await drawer.getByRole("button", { name: "Take theirs" }).click();
  assert.equal(await drawer.getByLabel("limit of orders").inputValue(), "11");
  await done();
});

test("what is edited and not saved stays while the planner looks elsewhere, and typing on is no shortcut", async () => {
  const { page, done } = await look(server);
  const pool = nameOf("north", "delivery", tomorrow, 8);
  const drawer = page.getByRole("complementary");
  await cell(page, pool).click();
  await drawer.getByLabel("limit of orders").fill("2");
  await call(server, "PATCH", `/v1/pools/${pool}`, { limits: { items: 290 } });
  await drawer.getByText("Somebody else changed this pool while you were editing").waitFor();
  await page.keyboard.type("4");
  await drawer.getByRole("tab", { name: "history" }).click();
  await cell(page, name).click();
  await page.getByRole("link", { name: "Health" }).click();
  await page.getByRole("button", { name: "1 not saved" }).click();
  await drawer.getByRole("tab", { name: "limits" }).click();
  assert.equal(await drawer.getByLabel("limit of orders").inputValue(), "24");
  await drawer.getByRole("button", { name: "Put my changes on top of theirs" }).click();
  // The planner's own change beside it is no conflict.
  await drawer.getByRole("button", { name: "Close for sale" }).click();
  await drawer.getByRole("button", { name: "Open for sale" }).waitFor();
  await drawer.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  const { limits, state } = await stored(pool);
  assert.deepEqual([limits, state], [{ orders: 24, items: 290 }, "closed"]);
  assert.equal(await page.getByRole("button", { name: "not saved" }).count(), 0);
  await done();
});

test("a pool outside of the grid's days is edited too", async () => {
  const pool = nameOf("lakes", "delivery", tomorrow, 8);
  const { page, done } = await look(server, { path: `/#/grid?from=2031-01-01&pool=${pool}` });
  const drawer = page.getByRole("complementary");
  for (const limit of ["21", "22"]) {
    await drawer.getByLabel("limit of orders").fill(limit);
    await drawer.getByRole("button", { name: "Save" }).click();
    await until(async () => (await stored(pool)).limits.orders, (orders) => orders === Number(limit), "the limit");
    await drawer.getByText(`of ${limit}`).waitFor();
  }
  await done();
});

test("the history tells who, when and what", async () => {
  const { page, shot, done } = await look(server);
  await cell(page, name).click();
  const drawer = page.getByRole("complementary");
  await drawer.getByRole("tab", { name: "history" }).click();
  await drawer.getByText("order-17").waitFor();
  await drawer.getByText("limit of orders 20 → 5").waitFor();
  await drawer.getByText("reserved orders 1, items 10").first().waitFor();
  await shot("pool-history");
  await drawer.getByLabel("only changes of the pool").check();
  await until(() => drawer.locator(".event").count(), (count) => count === 2, "the changes");
  await done();
});

test("a reservation is found by its reference and released", async () => {
  const { page, shot, done } = await look(server);
  await cell(page, name).click();
  const drawer = page.getByRole("complementary");
  await drawer.getByRole("tab", { name: "reservations" }).click();
  await until(() => drawer.locator(".reservation").count(), (count) => count === 17, "all of them");
  await drawer.getByLabel("Reference").fill("order-7");
  await until(() => drawer.locator(".reservation").count(), (count) => count === 1, "the one");
  await shot("pool-reservations");
  await drawer.getByRole("button", { name: "Release", exact: true }).click();
  await drawer.getByRole("button", { name: "Yes, release" }).click();
  await page.getByText("order-7 released.").waitFor();
  assert.equal((await stored(name)).confirmed.orders, 16);
  await done();
});

test("the list of reservations follows what is sold, and leaves the planner where they are", async () => {
  const other = nameOf("lakes", "pickup", tomorrow, 9);
  const order = (/** @type {number} */ number) => reserve(server, other, { items: 1 }, { reference: `lake-${number}` });
  for (let number = 1; number <= 49; number += 1) await order(number);
  const { page, shot, done } = await look(server);
  await cell(page, other).click();
  const drawer = page.getByRole("complementary");
  await drawer.getByRole("tab", { name: "reservations" }).click();
  const lines = drawer.locator(".reservation");
  const line = (/** @type {string} */ reference) => lines.filter({ has: page.getByText(reference, { exact: true }) });
  const count = (/** @type {number} */ wanted) => until(() => lines.count(), (count) => count === wanted, "the list");
  const focused = () => page.evaluate(() => document.activeElement?.closest("li, input, ul")?.querySelector("b")?.textContent ?? document.activeElement?.tagName);
  await count(49);
  await line("lake-20").getByRole("button", { name: "Release" }).focus();
  const place = async () => Math.round((await line("lake-20").boundingBox())?.y ?? 0);
  const before = await place();
  await order(50);
  await line("lake-50").waitFor();
  assert.equal(await focused(), "lake-20");
  assert.ok(Math.abs((await place()) - before) <= 1, "where the planner reads, nothing moves");
  // What has the focus goes.
  const { reservations } = await call(server, "GET", `/v1/reservations?pool=${other}&reference=lake-20`);
  await call(server, "POST", `/v1/reservations/${reservations[0].reservation}/release`);
  await line("lake-20").waitFor({ state: "detached" });
  assert.equal(await focused(), "lake-50");
  await drawer.getByLabel("Reference").fill("lake-51");
  await drawer.getByText("No confirmed reservations with just the reference “lake-51”.").waitFor();
  await order(51);
  await line("lake-51").waitFor();
  assert.equal(await drawer.getByLabel("Reference").inputValue(), "lake-51");
  assert.equal(await focused(), "INPUT");
  await drawer.getByLabel("Reference").fill("");
  for (let number = 52; number <= 60; number += 1) await order(number);
  await line("lake-60").waitFor();
  await drawer.getByRole("button", { name: "More" }).click();
  await count(59);
  await order(61);
  const again = drawer.getByRole("button", { name: "Changed since, read again" });
  await again.waitFor();
  await shot("pool-reservations-changed");
  await again.click();
  await line("lake-61").waitFor();
  await until(() => lines.count(), (count) => count <= 50, "the first page");
  await done();
});

test("a slot closed late: its customers, to copy and to download", async () => {
  const { page, shot, done } = await look(server);
  await cell(page, name).click();
  const drawer = page.getByRole("complementary");
  await drawer.getByRole("button", { name: "Close for sale" }).click();
  await drawer.getByRole("button", { name: "Copy customers" }).click();
  await page.getByText("16 customers copied.").waitFor();
  await shot("pool-customers");
  const copied = (await page.evaluate(() => navigator.clipboard.readText())).split("\n");
  assert.equal(copied.length, 16);
  assert.ok(copied.includes("order-17") && !copied.includes("order-7"));
  const [download] = await Promise.all([page.waitForEvent("download"), drawer.getByRole("button", { name: "Download customers" }).click()]);
  const rows = parseCsv(readFileSync(await download.path(), "utf8"));
  assert.equal(rows.length, 17);
  assert.deepEqual(rows[0].cells, ["reference", "reservation", "state", "orders", "items", "created_at"]);
  await done();
});
