"""The command line and the Prefect flows. Calls; does not compute."""
