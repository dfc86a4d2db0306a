import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { bookings, call, closeBrowser, hasBookings, look, reserve, run, serve, until } from "./harness.js";
import { cell, importTown, nameOf, tomorrow } from "./town.js";

/** @type {import("./harness.js").Server} */
let server;
const full = nameOf("centre", "delivery", tomorrow, 8);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8");
let created = 0;

before(async () => {
  server = await serve();
  await importTown(server);
  created = Date.now();
  await reserve(server, full, { orders: 20 });
  // Refusals are recorded by the minute: the test of them, the last one, waits for its end.
  for (let order = 0; order < 3; order += 1) {
    await assert.rejects(reserve(server, full, { orders: 2 }), /409/);
  }
});
after(async () => {
  await closeBrowser();
  await server.stop();
});

test("what the customer sees: a location leads to bands", async () => {
  await reserve(server, nameOf("centre", "delivery", tomorrow, 10), { orders: 19 });
  const { page, shot, done } = await look(server, { path: "/#/customer" });
  await page.getByLabel("Location").fill("1031");
  const offer = page.locator(`.offer[title^="${full}"]`);
  await offer.waitFor();
  assert.match((await offer.textContent()) ?? "", /sold out/);
  assert.match((await page.locator(`.offer[title^="${nameOf("centre", "delivery", tomorrow, 10)}"]`).textContent()) ?? "", /few left/);
  assert.match((await page.locator(`.offer[title^="${nameOf("centre", "delivery", tomorrow, 12)}"]`).textContent()) ?? "", /plenty/);
  assert.equal(await page.locator('.offer[title*="lakes"]').count(), 0);
  await shot("customer");
  await page.getByLabel("Location").fill("999");
  await page.getByText("Nothing is sold at “999”.").waitFor();
  await done();
});

test("the past: the grid as it was, and who changed what", async () => {
  const pool = nameOf("north", "delivery", tomorrow, 8);
  await reserve(server, pool, { orders: 3 });
  // In the middle of a time in which nothing happens: a step of the slider is more than half a second.
  const then = Date.now() + 1_000;
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  await reserve(server, pool, { orders: 8 });
  await call(server, "PATCH", `/v1/pools/${pool}`, { limits: { orders: 19 } });
  const { page, shot, done } = await look(server, { path: "/#/grid?zoom=4" });
  await until(() => cell(page, pool).getAttribute("aria-label"), (label) => /11 confirmed.* of 19/.test(label ?? ""), "the present");
  const pressed = Date.now();
  await page.getByRole("button", { name: "Past", exact: true }).click();
  await page.getByText("limit of orders 20 → 19").waitFor();
  const slider = page.getByRole("slider");
  await page.getByLabel("Reach of the slider").selectOption("last 10 minutes");
  await slider.fill(String(Math.round(1_000 - (pressed - then) / 600)));
  await until(() => cell(page, pool).getAttribute("aria-label"), (label) => /3 confirmed.* of 20/.test(label ?? ""), "the past");
  await shot("past");
  // What happens now does not reach into the past, and it cannot be changed.
  await reserve(server, pool, { orders: 1 });
  await cell(page, pool).click();
  assert.deepEqual(await page.getByRole("tab").allTextContents().then((texts) => texts.map((text) => text.trim())), ["history"]);
  assert.match((await cell(page, pool).getAttribute("aria-label")) ?? "", /3 confirmed/);
  await page.getByRole("button", { name: "Back to the present" }).click();
  await until(() => cell(page, pool).getAttribute("aria-label"), (label) => /12 confirmed.* of 19/.test(label ?? ""), "the present again");
  await page.getByRole("button", { name: "Past", exact: true }).click();
  await slider.fill("0");
  await until(() => page.locator(".empty").textContent().catch(() => ""), (text) => created > 0 && /There were no pools/.test(text ?? ""), "before the first pool");
  await done();
});

test("health: charts over the last minutes", async () => {
  const { page, shot, done } = await look(server, { path: "/#/health" });
  await page.locator(".chart").first().waitFor();
  const titles = await page.locator("figcaption span:first-child").allTextContents();
  for (const title of ["Commands", "HTTP latency", "Sync time", "Commands queued"]) assert.ok(titles.includes(title), title);
  await until(() => page.locator(".chart path.line").first().getAttribute("d"), (path) => /L/.test(path ?? ""), "a line");
  await shot("health");
  await done();
});

test("every view can be read in both schemes and on a wide screen, and has names for who cannot see", async () => {
  for (const dark of [false, true]) {
    const { page, shot, done } = await look(server, { dark, size: [1920, 1080] });
    for (const view of ["grid", "turned-away", "customer", "health"]) {
      await page.goto(`${server.origin}/#/${view}`);
      await page.locator(`main.view-${view}`).waitFor();
      if (view === "grid") await cell(page, full).click();
      if (view === "customer") await page.getByLabel("Location").fill("101");
      await page.waitForTimeout(700);
      await shot(`${view}-wide-${dark ? "dark" : "light"}`);
      await page.evaluate(axe);
      const faults = await page.evaluate(async () => {
        const { violations } = await /** @type {any} */ (window).axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa"] });
        return violations.map((/** @type {any} */ found) => `${found.id}: ${found.nodes.slice(0, 3).map((/** @type {any} */ node) => `${node.html} ${node.failureSummary}`).join("; ")}`);
      });
      assert.deepEqual(faults, [], `${view}, ${dark ? "dark" : "light"}`);
    }
    await done();
  }
});

test("with an address for administration the page is there, and callers do not see it", async () => {
  const split = await serve({ admin: "127.0.0.1:0" });
  assert.notEqual(split.origin, split.callers);
  await importTown(split);
  for (const path of ["/", "/page/main.js", "/v1/pools", "/v1/events", "/v1/health"]) {
    assert.equal((await fetch(split.callers + path)).status, 404, path);
  }
  const { page, done } = await look(split);
  await page.locator(".connection.live").waitFor();
  await cell(page, full).click();
  const drawer = page.getByRole("complementary");
  await drawer.getByLabel("limit of orders").fill("7");
  await drawer.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  await reserve({ ...split, origin: split.callers }, full, { orders: 7 });
  await until(() => cell(page, full).getAttribute("aria-label"), (label) => /7 confirmed.* of 7 orders, full/.test(label ?? ""), "the sale");
  for (const view of ["customer", "turned-away", "health"]) {
    await page.goto(`${split.origin}/#/${view}`);
    await page.locator(`main.view-${view} h1`).waitFor();
  }
  await page.locator(".chart").first().waitFor();
  assert.equal(await page.getByRole("alert").count(), 0);
  await done();
  await split.stop();
});

test("the real bookings of a hotel, as live traffic", { skip: hasBookings ? false : "../shared/data is not there" }, async () => {
  const hotel = await serve({ dimensions: "rooms,guests", timeZone: "Europe/Lisbon" });
  run(hotel, "pool", "import", join(bookings, "resort-pools.csv"));
  const { page, shot, done } = await look(hotel, { path: "/#/grid?from=2016-08-01" });
  await cell(page, "resort:A:2016-08-08").waitFor();
  await page.locator(".connection.live").waitFor();
  run(hotel, "orders", join(bookings, "resort-orders.csv.gz"), "--dimensions", "rooms,guests");
  const { confirmed } = await call(hotel, "GET", "/v1/pools/resort:A:2016-08-08");
  assert.ok(confirmed.rooms > 0);
  await page.getByLabel("Dimension").selectOption("rooms");
  await until(
    () => cell(page, "resort:A:2016-08-08").getAttribute("aria-label"),
    (label) => new RegExp(`: ${confirmed.rooms} confirmed`).test(label ?? ""),
    "the cell after all bookings",
  );
  await shot("hotel");
  await done();
  await hotel.stop();
});

test("what was turned away, by slot", async () => {
  const { page, shot, done } = await look(server, { path: "/#/turned-away" });
  await until(
    async () => {
      await page.reload();
      await page.getByRole("heading", { name: "Turned away" }).waitFor();
      await page.waitForTimeout(500);
      return page.locator("main").textContent();
    },
    (text) => /3 turned away at 1 slot/.test(text ?? ""),
    "the refusals",
    100_000,
  );
  await shot("turned-away");
  await page.getByRole("button", { name: "centre delivery" }).click();
  await cell(page, full).waitFor();
  await page.getByRole("complementary").waitFor();
  await done();
});
