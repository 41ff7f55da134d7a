module gotap.test/filled

go 1.19
