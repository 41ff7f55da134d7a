module gotap.test/callbacks

go 1.19
