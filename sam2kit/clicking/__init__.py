"""How a click becomes a mask, whoever shows it: the app's page and the notebook's widget stand on this."""
