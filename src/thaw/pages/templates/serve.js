"use strict";
const page = document.body, input = document.querySelector("input"), status = document.querySelector("[role=status]");
const cards = document.querySelector(".cards"), template = document.querySelector("template");
const largest = Number(page.dataset.most), parallel = 4, retries = 60, waiting = [];
let underWay = 0, done = 0, added = 0;
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
    added += 1;
  }
  cards.prepend(batch);
  next();
}

async function next() {
  if (underWay >= parallel || !waiting.length) return;
  const [file, card] = waiting.shift();
  underWay += 1;
  next();
  try {
    show(card, file, await predict(file));
  } catch (error) {
    write(card, error instanceof TypeError ? "The server does not answer." : error.message, "failed");
  }
  underWay -= 1;
  done += 1;
  const result = card.querySelector(".result").textContent;
  status.textContent = added > 1 ? `${done} of ${added} images` : `${file.name}: ${result}`;
  next();
}

async function predict(file) {
  if (file.size > largest) throw new Error(`The image is larger than ${largest / 1e6} MB.`);
  for (let tries = 1; ; tries++) {
    const answer = await fetch("predict?top=5&explain=1", { method: "POST", body: file });
    if (answer.status === 503 && tries < retries) {
      await pause(Number(answer.headers.get("Retry-After")) || 1);
      continue;
    }
    const content = await answer.json();
    if (answer.ok) return content;
    throw new Error(content.error[0].toUpperCase() + content.error.slice(1));
  }
}

function write(card, text, kind) {
  const result = card.querySelector(".result");
  result.textContent = text;
  result.className = "result " + kind;
}

function show(card, file, found) {
  write(card, result(found), "found");
  card.querySelector(".doubt").textContent = doubt(found);
  const [crop, heatmap] = card.querySelectorAll("figure"), image = crop.querySelector("img");
  image.alt = file.name;
  image.onload = () => URL.revokeObjectURL(image.src);
  image.onerror = () => { URL.revokeObjectURL(image.src); crop.hidden = true; }; // browsers do not show TIFF or HEIC
  image.src = URL.createObjectURL(file);
  heatmap.querySelector("img").src = found.explanation;
  heatmap.querySelector("img").alt = heatmap.querySelector("figcaption").textContent = `evidence for ${found.probabilities[0].class} (Grad-CAM)`;
  heatmap.hidden = card.querySelector(".pictures").hidden = false;
  card.querySelector("ol").append(...found.probabilities.map(bar));
}

function result(found) {
  if (found.classes) return found.classes.join(", ") || "none of these";
  return found.unknown ? "none of these" : `${found.predicted}, ${percent(found.confidence)}`;
}

function doubt(found) {
  if (found.classes && !found.classes.length) return `The most likely class is ${found.probabilities[0].class}.`;
  if (found.unknown) return `It looks unlike all classes. The most similar one is ${found.predicted}.`;
  if (!found.set || found.set.length === 1) return "";
  if (!found.set.length) return "The model is less certain than usual.";
  const shown = found.set.slice(0, 5).join(", "), more = found.set.length - 5;
  return `At 90\u00a0% certainty, one of: ${shown}${more > 0 ? ` and ${more} more` : ""}.`;
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
