// Starts the real program and a real browser, and holds what every flow must hold: nothing on the console that is not
// expected, no request to another host.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../../../../../", import.meta.url));
const program = process.env.PLIMSOLL_BIN ?? join(root, "target/debug/plimsoll");
const screenshots = join(root, "target/page");
const READY_MS = 60_000;
/** Real bookings of a hotel; a checkout need not have them. */
export const bookings = join(root, "../shared/data");
export const hasBookings = existsSync(join(bookings, "resort-pools.csv"));

/**
 * @typedef {object} Server
 * @property {string} engine address
 * @property {string} origin of HTTP, where the page is
 * @property {string} callers of the HTTP that callers get; another one only with an address for administration
 * @property {string} data
 * @property {() => Promise<void>} kill as power loss would
 * @property {() => void} halt its process stays, and does nothing
 * @property {() => void} goOn after it was halted
 * @property {() => Promise<void>} stop
 */

/**
 * @param {{ data?: string, engine?: string, http?: string, admin?: string, dimensions?: string, timeZone?: string }} [options]
 * @returns {Promise<Server>}
 */
export async function serve({ data, engine = "127.0.0.1:0", http = "127.0.0.1:0", admin, dimensions = "orders,items", timeZone = "Europe/Vienna" } = {}) {
  const directory = data ?? join(mkdtempSync(join(tmpdir(), "plimsoll-page-")), "data");
  const child = spawn(
    program,
    [
      ...["serve", "--data", directory, "--dimensions", dimensions, "--cores", "1", "--listen", engine, "--http", http],
      ...["--time-zone", timeZone, ...(admin ? ["--admin", admin] : [])],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let log = "";
  child.stderr.on("data", (chunk) => (log = (log + chunk).slice(-4_000)));
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const ready = await new Promise((resolve, reject) => {
    let text = "";
    const timer = setTimeout(() => reject(new Error(`not ready within ${READY_MS} ms: ${log}`)), READY_MS);
    child.stdout.on("data", (chunk) => {
      text += chunk;
      const found = /^ready engine=(\S+) http=(\S+)(?: admin=(\S+))?$/m.exec(text);
      if (!found) return;
      clearTimeout(timer);
      resolve(found);
    });
    void exited.then(() => reject(new Error(`ended before it was ready: ${log}`)));
  });
  // A flow that fails does not stop its server: that neither keeps the tests from ending nor outlives them.
  for (const one of [child, child.stdout, child.stderr]) /** @type {{ unref?: () => void }} */ (one).unref?.();
  process.once("exit", () => child.kill("SIGKILL"));
  /** @param {NodeJS.Signals} signal */
  const end = async (signal) => {
    child.ref();
    child.kill(signal);
    await exited;
  };
  return {
    engine: ready[1],
    origin: `http://${ready[3] ?? ready[2]}`,
    callers: `http://${ready[2]}`,
    data: directory,
    kill: () => end("SIGKILL"),
    halt: () => void child.kill("SIGSTOP"),
    goOn: () => void child.kill("SIGCONT"),
    async stop() {
      await end("SIGTERM");
      rmSync(dirname(directory), { recursive: true, force: true });
    },
  };
}

/**
 * Runs a command of the program against a server.
 * @param {Server} server
 * @param {string[]} words
 */
export function run(server, ...words) {
  // Beside the data, where a file of progress is left that no later run must find.
  const cwd = dirname(server.data);
  const done = spawnSync(program, [...words, "--engine", server.engine], { cwd, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  assert.equal(done.status, 0, `plimsoll ${words.join(" ")}: ${done.stderr}`);
  return done.stdout;
}

/**
 * Calls the server as another program would.
 * @param {Server} server
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body] an object as JSON, a text as CSV
 * @param {Record<string, string>} [headers]
 * @returns {Promise<any>}
 */
export async function call(server, method, path, body, headers = {}) {
  const isText = typeof body === "string";
  const response = await fetch(`${server.origin}${path}`, {
    method,
    headers: { ...(body === undefined ? {} : { "Content-Type": isText ? "text/csv" : "application/json" }), ...headers },
    body: body === undefined ? undefined : isText ? body : JSON.stringify(body),
  });
  const answer = await response.json();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

let keys = 0;

/**
 * Reserves as a shop would.
 * @param {Server} server
 * @param {string} pool
 * @param {Record<string, number>} units
 * @param {{ hold?: number, reference?: string }} [options]
 */
export function reserve(server, pool, units, { hold, reference } = {}) {
  keys += 1;
  const body = { pool, units, ...(hold ? { hold_seconds: hold } : {}), ...(reference ? { reference } : {}) };
  return call(server, "POST", "/v1/reservations", body, { "Idempotency-Key": `page-flow-${process.pid}-${keys}` });
}

/** @type {import("playwright-core").Browser | null} */
let browser = null;

/**
 * @typedef {object} Look
 * @property {import("playwright-core").Page} page
 * @property {(name: string) => Promise<void>} shot leaves a screenshot under target/page
 * @property {() => Promise<void>} done closes the page; fails when something was on its console that was not expected
 */

/**
 * @param {Server} server
 * @param {{ path?: string, dark?: boolean, size?: [number, number], expected?: RegExp }} [options] expected: what may stand on the console
 * @returns {Promise<Look>}
 */
export async function look(server, { path = "/", dark = false, size = [1280, 800], expected } = {}) {
  browser ??= await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  const context = await browser.newContext({
    viewport: { width: size[0], height: size[1] },
    colorScheme: dark ? "dark" : "light",
    acceptDownloads: true,
    locale: "en-GB",
    permissions: ["clipboard-read", "clipboard-write"],
  });
  const page = await context.newPage();
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.stack ?? error.message}`));
  page.on("console", (message) => {
    const text = `${message.type()}: ${message.text()}`;
    if (!expected?.test(text)) faults.push(text);
  });
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== server.origin && protocol !== "blob:") faults.push(`request to ${request.url()}`);
  });
  await page.goto(`${server.origin}${path}`);
  return {
    page,
    async shot(name) {
      mkdirSync(screenshots, { recursive: true });
      await page.screenshot({ path: join(screenshots, `${name}.png`) });
    },
    async done() {
      await context.close();
      assert.deepEqual(faults, [], "the page's console and requests");
    },
  };
}

/** Call after the last flow of a file. */
export async function closeBrowser() {
  await browser?.close();
  browser = null;
}

/**
 * Waits until a value is as expected, and says what it was otherwise.
 * @template T
 * @param {() => Promise<T> | T} read
 * @param {(value: T) => boolean} isRight
 * @param {string} what
 * @param {number} [within] milliseconds
 */
export async function until(read, isRight, what, within = 20_000) {
  const end = Date.now() + within;
  for (;;) {
    const value = await read();
    if (isRight(value)) return value;
    if (Date.now() > end) assert.fail(`${what}: still ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
