"use strict";
const page = document.body, input = document.querySelector("input"), status = document.querySelector("[role=status]");
const cards = document.querySelector(".cards"), template = document.querySelector("template");
const most = Number(page.dataset.most), together = 4, patience = 60, waiting = [];
let underWay = 0, done = 0, asked = 0;
page.style.setProperty("--zoom", page.dataset.zoom);

const percent = p => (100 * p).toFixed(1) + "\u00a0%";
const pause = seconds => new Promise(resolve => setTimeout(resolve, 1000 * seconds));

function add(files) {
  const batch = document.createDocumentFragment();
  for (const file of files) {
    const card = template.content.cloneNode(true).firstElementChild;
    card.querySelector("h2").textContent = file.name;
    batch.append(card);
    waiting.push([file, card]);
    asked += 1;
  }
  cards.prepend(batch);
  go();
}

async function go() {
  if (underWay >= together || !waiting.length) return;
  const [file, card] = waiting.shift();
  underWay += 1;
  go();
  try {
    show(card, file, await predict(file));
  } catch (error) {
    say(card, error instanceof TypeError ? "The server does not answer." : error.message, "failed");
  }
  underWay -= 1;
  done += 1;
  const told = card.querySelector(".told").textContent;
  status.textContent = asked > 1 ? `${done} of ${asked} images` : `${file.name}: ${told}`;
  go();
}

async function predict(file) {
  if (file.size > most) throw new Error(`The image is larger than ${most / 1e6} MB.`);
  for (let tries = 1; ; tries++) {
    const answer = await fetch("predict?top=5&explain=1", { method: "POST", body: file });
    if (answer.status === 503 && tries < patience) {
      await pause(Number(answer.headers.get("Retry-After")) || 1);
      continue;
    }
    const told = await answer.json();
    if (answer.ok) return told;
    throw new Error(told.error[0].toUpperCase() + told.error.slice(1));
  }
}

function say(card, text, kind) {
  const told = card.querySelector(".told");
  told.textContent = text;
  told.className = "told " + kind;
}

function show(card, file, found) {
  say(card, `${found.predicted}, ${percent(found.confidence)}`, "found");
  const [seen, why] = card.querySelectorAll("figure"), image = seen.querySelector("img");
  image.alt = file.name;
  image.onload = () => URL.revokeObjectURL(image.src);
  image.onerror = () => { URL.revokeObjectURL(image.src); seen.hidden = true; }; // TIFF or HEIC, which browsers do not show
  image.src = URL.createObjectURL(file);
  why.querySelector("img").src = found.explanation;
  why.querySelector("img").alt = why.querySelector("figcaption").textContent = `what speaks for ${found.predicted}`;
  why.hidden = card.querySelector(".pictures").hidden = false;
  card.querySelector("ol").append(...found.probabilities.map(bar));
}

function bar(row) {
  const item = document.createElement("li"), name = document.createElement("span");
  const value = document.createElement("span"), track = document.createElement("div"), fill = document.createElement("b");
  name.textContent = row.class;
  value.textContent = percent(row.probability);
  fill.style.width = `${100 * row.probability}%`;
  track.append(fill);
  item.append(name, value, track);
  return item;
}

input.onchange = () => { add(input.files); input.value = ""; };
document.ondragover = event => { event.preventDefault(); page.classList.add("over"); };
document.ondragleave = event => { if (!event.relatedTarget) page.classList.remove("over"); };
document.ondrop = event => { event.preventDefault(); page.classList.remove("over"); add(event.dataTransfer.files); };
document.onpaste = event => add(event.clipboardData.files);
