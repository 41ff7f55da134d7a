module gotap.test/threads

go 1.19
