module gotap.test/types

go 1.18
