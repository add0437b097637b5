-- Summary layer: one subject, one grain.

CREATE MATERIALIZED VIEW IF NOT EXISTS dws_city_day
  COMMENT 'sales by city and day, without cancelled orders'
  INTO warehouse.dws_city_day AS
SELECT city, day, COUNT(*) AS items, SUM(quantity) AS pieces, SUM(amount) AS revenue
FROM dwd_order_items
WHERE status <> 'cancelled'
GROUP BY city, day;

CREATE MATERIALIZED VIEW IF NOT EXISTS dws_product
  COMMENT 'sales by product, without cancelled orders'
  INTO warehouse.dws_product AS
SELECT product_id, MAX(title) AS title, MAX(category) AS category,
       COUNT(*) AS items, SUM(amount) AS revenue, AVG(price) AS average_price, MIN(price) AS lowest_price
FROM dwd_order_items
WHERE status <> 'cancelled'
GROUP BY product_id;

CREATE MATERIALIZED VIEW IF NOT EXISTS dws_city_payments
  COMMENT 'money received by city'
  INTO warehouse.dws_city_payments AS
SELECT city, COUNT(*) AS payments, SUM(amount) AS received
FROM dwd_payments
GROUP BY city;
