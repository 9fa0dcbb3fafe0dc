"""The Cloud Controller: the V3 REST API, the Routing API, tokens and the database behind them."""
