// The list of objects: rows to pick, rename and remove. scripts.py says what it is given, object_list.py what it shows.
// A row stays the same element as long as there is its object: an answer may arrive while a name is being written.

const list = element.querySelector('.sk-objects'), count = document.createElement('div');
const noun = list.dataset.noun || 'object';
list.setAttribute('role', 'listbox');
list.setAttribute('aria-label', `${noun[0].toUpperCase()}${noun.slice(1)}s`);
count.className = 'sk-count';
list.before(count);
const lines = new Map(); // number -> its row
let writing = null; // {line, end}: the row whose name is being written
let scrolledTo = null; // number of the row that was brought into view

function made(number) {
  const line = document.createElement('div');
  line.className = 'sk-object';
  line.dataset.number = number;
  line.setAttribute('role', 'option');
  line.innerHTML = `<button type="button" class="sk-pick"><img alt=""><span class="sk-words"><span class="sk-name"></span><span class="sk-note"></span></span></button>
    <button type="button" class="sk-rename" title="Rename">✎</button><button type="button" class="sk-drop" title="Remove">✕</button>`;
  return line;
}

function fill(line, o, active) {
  const picture = line.querySelector('img'), note = line.querySelector('.sk-note');
  line.setAttribute('aria-selected', String(active));
  if (o.colour) line.style.setProperty('--sk-colour', o.colour); else line.style.removeProperty('--sk-colour');
  line.querySelector('.sk-name').textContent = o.name;
  note.textContent = o.note;
  note.title = o.tooltip || '';
  line.querySelector('.sk-rename').setAttribute('aria-label', `Rename ${o.name}`);
  line.querySelector('.sk-drop').setAttribute('aria-label', `Remove ${o.name}`);
  picture.style.visibility = o.picture ? '' : 'hidden';
  if (o.picture && picture.src !== o.picture) picture.src = o.picture;
}

function show() {
  const { rows, active } = props.value || { rows: [], active: null };
  const there = new Set(rows.map((o) => o.number));
  for (const [number, line] of lines) if (!there.has(number)) forget(number, line);
  rows.forEach((o, i) => {
    if (!lines.has(o.number)) lines.set(o.number, made(o.number));
    const line = lines.get(o.number);
    fill(line, o, o.number === active);
    if (list.children[i] !== line) list.insertBefore(line, list.children[i] || null);
  });
  count.textContent = rows.length > 1 ? `${rows.length} ${noun}s` : '';
  if (active !== scrolledTo && lines.has(active)) list.scrollTop = clampScroll(lines.get(active));
  scrolledTo = active;
}

function forget(number, line) {
  if (writing && writing.line === line) writing.end(false);
  line.remove();
  lines.delete(number);
}

function clampScroll(line) {
  // as far as needed, so that the chosen row is seen; the page itself does not move
  const over = line.offsetTop + line.offsetHeight - list.clientHeight;
  return Math.min(Math.max(list.scrollTop, over), line.offsetTop);
}

function rename(line) {
  if (writing) writing.end(true);
  const shown = line.querySelector('.sk-name'), before = shown.textContent, input = document.createElement('input');
  input.value = before;
  input.maxLength = 40;
  input.setAttribute('aria-label', `Name of the ${noun}`);
  line.classList.add('sk-writing');
  line.querySelector('.sk-pick').after(input);
  input.focus();
  input.select();
  const end = (keep) => {
    if (!writing || writing.line !== line) return;
    writing = null;
    const name = input.value;
    line.classList.remove('sk-writing');
    input.remove();
    if (!keep || name === before) return;
    shown.textContent = name; // the list that follows has it, or the old one if it was refused
    trigger('rename', { number: Number(line.dataset.number), name });
  };
  writing = { line, end };
  input.addEventListener('blur', () => end(true));
  for (const kind of ['keydown', 'keyup']) input.addEventListener(kind, (e) => e.stopPropagation()); // no shortcuts
  input.addEventListener('keydown', (e) => {
    if (e.isComposing) return;
    if (e.key === 'Enter') end(true);
    if (e.key === 'Escape') end(false);
  });
}

list.addEventListener('click', (e) => {
  const line = e.target.closest('.sk-object');
  if (!line || e.target.closest('input')) return;
  const number = Number(line.dataset.number);
  if (e.target.closest('.sk-drop')) trigger('drop', { number });
  else if (e.target.closest('.sk-rename')) rename(line);
  else trigger('pick', { number });
});
list.addEventListener('dblclick', (e) => { if (e.target.closest('.sk-name')) rename(e.target.closest('.sk-object')); });

watch('value', show);
show();
