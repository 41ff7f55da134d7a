module gotap.test/copy

go 1.19
