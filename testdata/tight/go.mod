module gotap.test/tight

go 1.19
