module gotap.test/ends

go 1.19
