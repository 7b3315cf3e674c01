from tests.parity.table import lines, rows

for line in lines(rows()):
    print(line)
