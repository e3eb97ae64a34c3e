"""Running the lab: which solution, which seeds, how often, what is reported. The plugin is labgrade.plugin."""
