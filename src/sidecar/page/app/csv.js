// CSV as spreadsheets write it: comma or semicolon, with or without a byte order mark, quotes where needed.

/**
 * @typedef {object} CsvRow
 * @property {number} line on which it begins, from 1
 * @property {string[]} cells
 */

/**
 * The text of a file: UTF-8, or what spreadsheets of western Europe write when they are not told otherwise.
 * @param {ArrayBuffer} bytes
 */
export function decodeSheet(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

/**
 * The rows that are not blank. A quote that is never closed takes the rest of the text.
 * @param {string} text
 * @returns {CsvRow[]}
 */
export function parseCsv(text) {
  const source = text.replace(/^\uFEFF/, "");
  const header = source.slice(0, source.search(/[\r\n]|$/));
  const separator = header.split(";").length > header.split(",").length ? ";" : ",";
  /** @type {CsvRow[]} */
  const rows = [];
  let line = 1;
  let row = /** @type {CsvRow} */ ({ line, cells: [] });
  let cell = "";
  let quoted = false;
  const endCell = () => {
    row.cells.push(cell);
    cell = "";
  };
  const endRow = () => {
    endCell();
    if (row.cells.some((text) => text.trim() !== "")) rows.push(row);
    row = { line: line + 1, cells: [] };
  };
  for (let index = 0; index < source.length; index += 1) {
    const character = source[index];
    if (quoted) {
      if (character === '"' && source[index + 1] === '"') {
        cell += '"';
        index += 1;
      } else if (character === '"') quoted = false;
      else cell += character;
      if (character === "\n") line += 1;
    } else if (character === '"' && cell === "") quoted = true;
    else if (character === separator) endCell();
    else if (character === "\n") {
      endRow();
      line += 1;
    } else if (character !== "\r") cell += character;
  }
  if (cell !== "" || row.cells.length) endRow();
  return rows;
}

/** @param {string} text */
const cellText = (text) => (/[",;\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/**
 * @param {string[][]} rows
 * @returns {string}
 */
export const csvText = (rows) => rows.map((row) => `${row.map(cellText).join(",")}\r\n`).join("");

/**
 * Hands a text to the browser as a file.
 * @param {string} name
 * @param {string} text
 */
export function download(name, text) {
  // The mark tells spreadsheets that it is UTF-8.
  const url = URL.createObjectURL(new Blob(["\uFEFF", text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
