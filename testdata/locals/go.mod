module locals

go 1.18
