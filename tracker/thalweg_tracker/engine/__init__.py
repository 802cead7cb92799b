"""One SQL dialect, two ways to reach it: embedded chDB and ClickHouse servers, behind `contract.Engine`."""
