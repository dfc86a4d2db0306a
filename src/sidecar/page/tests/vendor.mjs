// Makes app/vendor of the packages that package.json names: one file for the browser and the licences beside it.
//
//   npm run vendor             writes it
//   npm run vendor -- --check  fails when what is committed is not what the packages give
import { build } from "esbuild";
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const PACKAGES = ["preact", "htm", "@preact/signals", "@preact/signals-core"];
const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const read = (/** @type {string} */ path) => readFile(here(path), "utf8");

const versions = [];
const licences = [];
for (const name of PACKAGES) {
  const { version, license } = JSON.parse(await read(`node_modules/${name}/package.json`));
  versions.push(`${name} ${version} (${license})`);
  licences.push(`${name} ${version}\n\n${(await read(`node_modules/${name}/LICENSE`)).trim()}\n`);
}

const bundle = await build({
  entryPoints: [here("vendor-entry.js")],
  banner: { js: `// ${versions.join(", ")}. Made by tests/vendor.mjs; not edited by hand. Licences: LICENSES.txt.` },
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  legalComments: "none",
  write: false,
});
const files = {
  "../app/vendor/runtime.js": bundle.outputFiles[0].text,
  "../app/vendor/LICENSES.txt": licences.join(`\n${"-".repeat(80)}\n\n`),
};

for (const [path, text] of Object.entries(files)) {
  if (!process.argv.includes("--check")) {
    await writeFile(here(path), text);
  } else if ((await read(path)) !== text) {
    console.error(`${path} is not what the packages give: run 'npm run vendor'`);
    process.exitCode = 1;
  }
}
