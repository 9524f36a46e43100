// Ctrl+V anywhere, and a file dropped anywhere: a photo goes to the Image tab, a video to the Video tab.
(() => {
  const photo = /\.(jpe?g|png|webp|bmp|tiff?|heic|heif|gif)$/i;
  const video = /\.(mp4|mov|m4v|mkv|webm|avi|3gp|mts|m2ts)$/i;
  const tab = (title) => [...document.querySelectorAll('button[role=tab]')].find((b) => b.textContent.trim() === title);
  const hand = (files, place, tries) => {  // a tab's parts come to the page when it is shown for the first time
    const input = document.querySelector('#' + place + '-upload input[type=file]');
    if (!input) {
      if (tries) setTimeout(() => hand(files, place, tries - 1), 100);
      return;
    }
    const box = new DataTransfer();
    for (const file of input.multiple ? files : files.slice(0, 1)) box.items.add(file);
    input.files = box.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  };
  const give = (files) => {
    const isOf = (f, kind, name) => f.type.startsWith(kind + '/') || name.test(f.name);
    const found = [...(files || [])].find((f) => isOf(f, 'image', photo) || isOf(f, 'video', video));
    if (!found) return false;
    const tunes = tab('Fine-tune') && tab('Fine-tune').getAttribute('aria-selected') === 'true';
    const place = isOf(found, 'video', video) ? 'Video' : tunes ? 'Fine-tune' : 'Image';
    if (tab(place)) tab(place).click();
    const rest = [...files].filter((f) => f !== found && isOf(f, 'image', photo));
    hand([found, ...rest], { Video: 'video', 'Fine-tune': 'teach', Image: 'image' }[place], 50);
    return true;
  };
  document.addEventListener('paste', (e) => {
    const t = e.target;
    const typing = t.matches && t.matches('textarea, input:not([type=radio]):not([type=checkbox])');
    if (!typing && give(e.clipboardData && e.clipboardData.files)) e.preventDefault();
  });
  document.addEventListener('dragover', (e) => e.preventDefault());
  document.addEventListener('drop', (e) => {
    if (e.target.closest('#image-upload, #video-upload, #teach-upload')) return;
    e.preventDefault();
    give(e.dataTransfer && e.dataTransfer.files);
  });
})();
