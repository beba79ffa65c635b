const input = () => element.querySelector('input[type=file]');
const say = (message) => {
  const line = element.querySelector('.rp-drop-news');
  line.textContent = message;
  line.hidden = !message;
};
const take = (file) => {
  if (!file) return;
  const most = Number(element.querySelector('.rp-drop').dataset.bytes);
  if (file.size > most) {
    say(`The file ${file.name} has ${(file.size / 1e6).toFixed(1)} MB, and ${most / 1e6} MB are accepted; make it smaller first.`);
    return;
  }
  say('');
  const reader = new FileReader();
  reader.onload = () => trigger('photo', {name: file.name, data: String(reader.result).replace(/^[^,]*,?/, '')});
  reader.onerror = () => say(`The file ${file.name} cannot be read.`);
  reader.readAsDataURL(file);
};
element.addEventListener('change', (event) => {
  if (event.target === input()) { take(event.target.files[0]); event.target.value = ''; }
});
element.addEventListener('click', (event) => {
  const sample = event.target.closest('[data-sample]');
  if (sample) { say(''); trigger('sample', {name: sample.dataset.sample}); }
});
const zone = () => element.querySelector('.rp-zone');
for (const name of ['dragenter', 'dragover']) {
  document.addEventListener(name, (event) => { event.preventDefault(); zone()?.classList.add('rp-over'); });
}
document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) zone()?.classList.remove('rp-over'); });
document.addEventListener('drop', (event) => {
  event.preventDefault();
  zone()?.classList.remove('rp-over');
  take(event.dataTransfer?.files[0]);
});
document.addEventListener('paste', (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith('image/'));
  if (file) take(file);
});
