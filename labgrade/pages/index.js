"use strict";
// Sorts the class's table by the column whose heading is pressed, and hides the rows that do not hold what is searched.

const table = document.querySelector("#submissions");
const body = table.tBodies[0];

function key(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent.toLowerCase() : Number(cell.dataset.value);
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en");
}

function sort(heading) {
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  const column = heading.cellIndex;
  const rows = Array.from(body.rows, (row) => [key(row, column), row]);
  rows.sort((a, b) => (ascending ? compare(a[0], b[0]) : compare(b[0], a[0])));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...rows.map((pair) => pair[1]));
}

for (const button of table.tHead.querySelectorAll("button")) {
  button.addEventListener("click", () => sort(button.closest("th")));
}

document.querySelector("#search").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase();
  for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(words);
});
