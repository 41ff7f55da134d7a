module gotap.test/gone

go 1.19
