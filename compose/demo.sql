-- Two tables that a wide table joins: where people work, and people. Stuff 2 has no base, so the wide table lacks it.
CREATE DATABASE IF NOT EXISTS test;
CREATE TABLE IF NOT EXISTS test.base (base_id INT PRIMARY KEY, base_location VARCHAR(20));
CREATE TABLE IF NOT EXISTS test.stuff (stuff_id INT PRIMARY KEY, stuff_base_id INT, stuff_name VARCHAR(20));
INSERT IGNORE INTO test.base VALUES (1, 'bj'), (2, 'sh');
INSERT IGNORE INTO test.stuff VALUES (1, 1, 'zhangsan'), (2, NULL, 'lisi'), (3, 2, 'wangwu');
