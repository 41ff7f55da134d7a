module gotap.test/corners

go 1.19
