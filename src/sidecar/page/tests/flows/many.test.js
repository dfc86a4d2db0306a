import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { parseCsv } from "../../app/csv.js";
import { addDays } from "../../app/times.js";
import { call, closeBrowser, look, reserve, serve, until } from "./harness.js";
import { cell, clock, importTown, nameOf, townCsv, tomorrow } from "./town.js";

/** @type {import("./harness.js").Server} */
let server;
const day = addDays(tomorrow, 1);
const hours = [8, 10, 12, 14, 16, 18];
const CONFLICT = /412 \(Precondition Failed\)/;

before(async () => {
  server = await serve();
  await importTown(server);
});
after(async () => {
  await closeBrowser();
  await server.stop();
});

/** @param {string} pool */
const stored = (pool) => call(server, "GET", `/v1/pools/${pool}`);
/** @param {string} zone */
const limits = (zone) => Promise.all(hours.map(async (hour) => (await stored(nameOf(zone, "delivery", day, hour))).limits.orders));

test("a range by keyboard is shifted, with a preview", async () => {
  await reserve(server, nameOf("centre", "delivery", day, 8), { orders: 18 });
  const { page, shot, done } = await look(server, { path: "/#/grid?zoom=4" });
  await cell(page, nameOf("centre", "delivery", day, 8)).click();
  await page.keyboard.press("Escape");
  for (let step = 0; step < 5; step += 1) await page.keyboard.press("Shift+ArrowRight");
  assert.match((await page.locator(".selection-bar").textContent()) ?? "", /6 pools in 1 zone/);
  await page.keyboard.press("l");
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Dimension").selectOption("orders");
  await dialog.getByLabel("Amount").fill("-5");
  await dialog.getByText("1 would be over their limit, by 3 in all").waitFor();
  await shot("range-preview");
  await dialog.getByRole("button", { name: "Change 6 pools" }).click();
  await page.getByText("6 limits changed.").waitFor();
  assert.deepEqual(await limits("centre"), hours.map(() => 15));
  await done();
});

test("a range by mouse is set; the same time on all days joins it", async () => {
  const { page, done } = await look(server, { path: "/#/grid?zoom=4" });
  const from = cell(page, nameOf("lakes", "delivery", day, 10));
  const to = cell(page, nameOf("lakes", "delivery", day, 14));
  await from.hover();
  await page.mouse.down();
  await to.hover();
  await page.mouse.up();
  const bar = page.locator(".selection-bar");
  assert.match((await bar.textContent()) ?? "", /3 pools/);
  await bar.getByRole("button", { name: "Same time, all days" }).click();
  await until(() => bar.textContent(), (text) => /39 pools/.test(text ?? ""), "the selection");
  await bar.getByRole("button", { name: "Limits…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("How").selectOption("set");
  await dialog.getByLabel("Amount").fill("33");
  await dialog.getByRole("button", { name: "Change 39 pools" }).click();
  await page.getByText("39 limits changed.").waitFor();
  assert.deepEqual(await limits("lakes"), [20, 33, 33, 33, 20, 20]);
  await bar.getByRole("button", { name: "Close", exact: true }).click();
  await page.getByText("39 pools closed now.").waitFor();
  assert.equal((await stored(nameOf("lakes", "delivery", day, 10))).state, "closed");
  await done();
});

test("one pool that somebody else changed, and none is changed", async () => {
  const { page, shot, done } = await look(server, { path: "/#/grid?zoom=4", expected: CONFLICT });
  await cell(page, nameOf("north", "delivery", day, 8)).click();
  await page.keyboard.press("Escape");
  for (let step = 0; step < 5; step += 1) await page.keyboard.press("Shift+ArrowRight");
  await page.keyboard.press("l");
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Amount").fill("10");
  await call(server, "PATCH", `/v1/pools/${nameOf("north", "delivery", day, 12)}`, { limits: { orders: 7 } });
  await dialog.getByRole("button", { name: "Change 6 pools" }).click();
  await dialog.getByText("Nothing was changed: somebody else changed 1 of these pools meanwhile").waitFor();
  const row = dialog.getByRole("row", { name: new RegExp(`${day}T12`) });
  assert.deepEqual((await row.getByRole("cell").allTextContents()).slice(0, 3), ["20", "30", "7"]);
  await shot("range-conflict");
  assert.deepEqual(await limits("north"), [20, 20, 7, 20, 20, 20]);
  await dialog.getByRole("button", { name: "Go on from theirs" }).click();
  await dialog.getByRole("button", { name: "Change 6 pools" }).click();
  await page.getByText("6 limits changed.").waitFor();
  assert.deepEqual(await limits("north"), [30, 30, 17, 30, 30, 30]);
  await done();
});

test("a week is copied onto another, by the clock on the wall", async () => {
  // The clocks of Vienna go forward on the last Sunday of March, between these two weeks.
  const source = "2027-03-22";
  const target = "2027-03-29";
  await importTown(server, { from: source, days: 7, zones: [["copied", "999"]] });
  await importTown(server, { from: target, days: 2, zones: [["copied", "999"]] });
  const first = nameOf("copied", "delivery", source, 8);
  await call(server, "PATCH", `/v1/pools/${first}`, { limits: { orders: 44 } });
  const { page, shot, done } = await look(server, { path: `/#/grid?from=${source}&filter=copied` });
  await cell(page, first).waitFor();
  await page.getByRole("button", { name: "Copy week…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("from the week of").fill(source);
  await dialog.getByLabel("onto the week of").fill(target);
  await dialog.getByText("1 changed, 45 created, 17 equal.").waitFor();
  await shot("week-copy");
  await dialog.getByRole("button", { name: "Copy onto 46 slots" }).click();
  await page.getByText("1 slot changed, 45 created.").waitFor();
  assert.equal((await stored(nameOf("copied", "delivery", target, 8))).limits.orders, 44);
  const created = await stored(nameOf("copied", "pickup", "2027-04-02", 9));
  assert.equal(created.starts_at, "2027-04-02T07:00:00.000Z");
  assert.equal(clock.local(Date.parse(created.closes_at)).minute, 540);
  await done();
});

test("the grid as a sheet: downloaded, edited, previewed, imported", async () => {
  const { page, shot, done } = await look(server, { expected: /422 \(Unprocessable/ });
  const pool = nameOf("centre", "pickup", tomorrow, 9);
  await cell(page, pool).waitFor();
  await page.getByRole("button", { name: "CSV…" }).click();
  const dialog = page.getByRole("dialog");
  const [download] = await Promise.all([page.waitForEvent("download"), dialog.getByRole("button", { name: /These two weeks/ }).click()]);
  const text = readFileSync(await download.path(), "utf8");
  const rows = parseCsv(text);
  assert.equal(rows.length - 1, 3 * 13 * 9);

  const file = dialog.getByLabel("CSV file");
  const sheet = (/** @type {string} */ edited) => ({ name: "edited.csv", mimeType: "text/csv", buffer: Buffer.from(edited) });
  await file.setInputFiles(sheet(text));
  await dialog.getByText(`0 changed, 0 new, ${rows.length - 1} equal`).waitFor();

  // As a spreadsheet would: another separator, two cells edited.
  const column = (/** @type {string} */ name) => rows[0].cells.indexOf(name);
  const place = rows.findIndex(({ cells }) => cells[0] === pool);
  rows[place].cells[column("orders")] = "many";
  const edited = () => `\uFEFF${rows.map(({ cells }) => cells.join(";")).join("\r\n")}\r\n`;
  await file.setInputFiles(sheet(edited()));
  await dialog.getByText("Nothing can be imported: 1 error.").waitFor();
  const error = dialog.getByRole("row", { name: /many/ });
  assert.deepEqual((await error.getByRole("cell").allTextContents()).slice(0, 3), [String(place + 1), "orders", "many"]);
  await shot("sheet-errors");
  rows[place].cells[column("orders")] = "31";
  rows[place].cells[column("state")] = "closed";
  rows.push({ line: 0, cells: rows[place].cells.map((cell, index) => (index === 0 ? `${pool}-extra` : cell)) });
  await file.setInputFiles(sheet(edited()));
  await dialog.getByText(/1 changed, 1 new/).waitFor();
  await dialog.getByText("limit of orders 30 → 31").waitFor();
  await shot("sheet-preview");
  await dialog.getByRole("button", { name: "Import 2 pools" }).click();
  await page.getByText("2 pools imported.").waitFor();
  const now = await stored(pool);
  assert.deepEqual([now.limits.orders, now.state], [31, "closed"]);
  assert.equal((await stored(`${pool}-extra`)).limits.orders, 31);
  await done();
});

test("a sheet does not overwrite what somebody else changed since the preview", async () => {
  const { page, done } = await look(server, { expected: CONFLICT });
  const pool = nameOf("north", "pickup", tomorrow, 9);
  await cell(page, pool).waitFor();
  await page.getByRole("button", { name: "CSV…" }).click();
  const dialog = page.getByRole("dialog");
  const lines = townCsv().split("\n");
  const line = lines.find((each) => each.startsWith(pool)) ?? "";
  const buffer = Buffer.from(`${lines[0]}\n${line.replace(/30,400$/, "35,400")}\n`);
  await dialog.getByLabel("CSV file").setInputFiles({ name: "one.csv", mimeType: "text/csv", buffer });
  await dialog.getByText("limit of orders 30 → 35").waitFor();
  await call(server, "PATCH", `/v1/pools/${pool}`, { limits: { orders: 28 } });
  await dialog.getByRole("button", { name: "Import 1 pool" }).click();
  await dialog.getByText(/Nothing was imported: .* changed since the preview/).waitFor();
  await dialog.getByText("limit of orders 28 → 35").waitFor();
  assert.equal((await stored(pool)).limits.orders, 28);
  await page.keyboard.press("Escape");
  await done();
});

test("more changes than one call takes are counted in the preview, and not offered", async () => {
  const { page, shot, done } = await look(server);
  await cell(page, nameOf("north", "pickup", tomorrow, 9)).waitFor();
  await page.getByRole("button", { name: "CSV…" }).click();
  const dialog = page.getByRole("dialog");
  const zones = Array.from({ length: 40 }, (_, index) => /** @type {[string, string]} */ ([`new-${index}`, String(500 + index)]));
  await dialog.getByLabel("CSV file").setInputFiles({ name: "many.csv", mimeType: "text/csv", buffer: Buffer.from(townCsv({ zones })) });
  await dialog.getByText("These are 5,040 pools, and at most 5,000 are changed at once.").waitFor();
  await dialog.getByText("plimsoll pool import FILE").waitFor();
  assert.ok(await dialog.getByRole("button", { name: "Import 5,040 pools" }).isDisabled());
  await shot("sheet-too-many");
  await page.keyboard.press("Escape");

  // As a server that takes fewer.
  const settings = await call(server, "GET", "/v1/settings");
  await page.route("**/v1/settings", (route) => route.fulfill({ json: { ...settings, changes_max: 100 } }));
  await page.reload();
  await cell(page, nameOf("north", "pickup", tomorrow, 9)).waitFor();
  await page.getByRole("button", { name: "Copy week…" }).click();
  await dialog.getByLabel("onto the week of").fill("2031-01-06");
  await dialog.getByText(/^These are \d+ pools, and at most 100 are changed at once\. Filter the grid/).waitFor();
  assert.ok(await dialog.getByRole("button", { name: /^Copy onto \d+ slots/ }).isDisabled());
  await shot("week-too-many");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await done();
});
