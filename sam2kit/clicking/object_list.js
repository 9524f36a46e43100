// The list of objects: rows to pick, rename and remove. scripts.py says what it is given, object_list.py what it shows.

const list = element.querySelector('.sk-objects');
list.setAttribute('role', 'listbox');
list.setAttribute('aria-label', 'Objects');

function row(o, active) {
  const line = document.createElement('div');
  line.className = 'sk-object';
  line.dataset.number = o.number;
  line.setAttribute('role', 'option');
  line.setAttribute('aria-selected', String(active));
  line.innerHTML = `<button type="button" class="sk-pick"><img alt=""><span class="sk-name"></span><span class="sk-note"></span></button>
    <button type="button" class="sk-rename" title="Rename">✎</button><button type="button" class="sk-drop" title="Remove">✕</button>`;
  line.style.setProperty('--sk-colour', o.colour);
  line.querySelector('.sk-name').textContent = o.name;
  line.querySelector('.sk-note').textContent = o.note;
  line.querySelector('.sk-rename').setAttribute('aria-label', `Rename ${o.name}`);
  line.querySelector('.sk-drop').setAttribute('aria-label', `Remove ${o.name}`);
  const picture = line.querySelector('img');
  if (o.picture) picture.src = o.picture; else picture.style.visibility = 'hidden';
  return line;
}

function show() {
  const value = props.value || { rows: [], active: null };
  list.replaceChildren(...value.rows.map((o) => row(o, o.number === value.active)));
  const chosen = list.querySelector('[aria-selected=true]');
  if (chosen) list.scrollTop = clampScroll(chosen);
}

function clampScroll(line) {
  // as far as needed, so that the chosen row is seen; the page itself does not move
  const over = line.offsetTop + line.offsetHeight - list.clientHeight;
  return Math.min(Math.max(list.scrollTop, over), line.offsetTop);
}

function rename(line) {
  const shown = line.querySelector('.sk-name'), before = shown.textContent, input = document.createElement('input');
  input.value = before;
  input.maxLength = 40;
  input.setAttribute('aria-label', 'Name of the object');
  shown.replaceWith(input);
  input.focus();
  input.select();
  let done = false;
  const end = (keep) => {
    if (done) return;
    done = true;
    const name = input.value;
    input.replaceWith(shown);
    if (!keep || name === before) return;
    trigger('rename', { number: Number(line.dataset.number), name });
  };
  input.addEventListener('blur', () => end(true));
  input.addEventListener('click', (e) => e.stopPropagation());
  input.addEventListener('keydown', (e) => {
    e.stopPropagation();
    if (e.key === 'Enter') end(true);
    if (e.key === 'Escape') end(false);
  });
}

list.addEventListener('click', (e) => {
  const line = e.target.closest('.sk-object');
  if (!line) return;
  const number = Number(line.dataset.number);
  if (e.target.closest('.sk-drop')) trigger('drop', { number });
  else if (e.target.closest('.sk-rename')) rename(line);
  else trigger('pick', { number });
});
list.addEventListener('dblclick', (e) => { if (e.target.closest('.sk-name')) rename(e.target.closest('.sk-object')); });

watch('value', show);
show();
