module gotap.test/again

go 1.19
