"""How the bundled model is made: its recipe, the scenes it learns from, and what it is measured on."""
