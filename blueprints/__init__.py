"""The doors: HTTP in, HTTP out; rules live behind them."""
