module gotap.test/breaks

go 1.19
