element.addEventListener('click', (event) => {
  const row = event.target.closest('[data-class]');
  if (row) trigger('choose', {index: Number(row.dataset.class)});
});
