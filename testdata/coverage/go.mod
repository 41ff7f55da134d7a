module gotap.test/coverage

go 1.18
